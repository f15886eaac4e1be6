"""Taking a part of a labelled set, the same share of every class."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def stratified_split(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Choose ``fraction`` of each class at random.

    With the same labels and seed, a smaller fraction is a part of a larger one.

    Args:
        labels: (N,) int64.
        fraction: of each class, rounded to whole images; 0 to 1.
        seed: of the choice, at least 0.

    Returns:
        The positions taken and those left, each int64 in ascending order.
    """
    rng = np.random.default_rng(seed)
    taken = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        shuffled = members[torch.from_numpy(rng.permutation(len(members)))]
        taken[shuffled[: round(fraction * len(members))]] = True
    return taken.nonzero().flatten(), (~taken).nonzero().flatten()


def missing_classes(labels: Tensor, num_classes: int) -> list[int]:
    """List the classes that no label (N,) names."""
    return (torch.bincount(labels, minlength=num_classes) == 0).nonzero().flatten().tolist()
