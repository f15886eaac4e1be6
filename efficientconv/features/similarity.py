"""How alike the feature maps of an image are: the cosine similarity of every two of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

ALIKE = 0.9
"""From this similarity on one map is said to be nearly a multiple of the other."""


@dataclass(frozen=True)
class Similarity:
    """Cosine similarities of pairs of maps, of all images together.

    Attributes:
        pairs: (P,) -1 to 1; 1 is a map that is a multiple of the other.
        dead: mean number of maps in an image that are zero everywhere, and have no direction to compare.
    """

    pairs: Tensor
    dead: float

    @property
    def mean(self) -> float:
        """Return the mean over all pairs; not a number where there is none."""
        return self.pairs.mean().item()

    @property
    def alike(self) -> float:
        """Return the share of pairs at or above `ALIKE`."""
        return (self.pairs >= ALIKE).float().mean().item()


def similarity(maps: Tensor) -> Similarity:
    """Compare the maps (N, channels, h, w) of each image with one another."""
    flat = maps.flatten(2)
    alive = flat.abs().amax(2) > 0  # (N, channels)
    unit = F.normalize(flat, dim=2)
    products = unit @ unit.transpose(1, 2)  # (N, channels, channels)
    both = alive.unsqueeze(1) & alive.unsqueeze(2)
    once = torch.ones(products.shape[1:], dtype=torch.bool).triu(diagonal=1)
    return Similarity(products[both & once].clamp(-1, 1), (~alive).sum(1).float().mean().item())
