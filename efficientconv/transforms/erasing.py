"""Rectangles erased from the images of a normalised batch.

Z. Zhong, L. Zheng, G. Kang, S. Li, Y. Yang, "Random Erasing Data Augmentation", AAAI 2020; as torchvision's
``RandomErasing`` with its defaults, behind ``Normalize``: what is erased becomes 0, the mean colour.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from efficientconv.errors import UserError

ATTEMPTS = 10  # torchvision's
AREA = (0.02, 0.33)  # of the image
RATIO = (0.3, 3.3)  # height / width


class RandomErasing:
    """Erases one rectangle of random area, aspect ratio and place.

    Up to ten rectangles are drawn until one is smaller than the image in both directions; where none is, the
    image keeps everything.

    Args:
        probability: of an image to lose one.

    Raises:
        UserError: no probability.
    """

    def __init__(self, probability: float) -> None:
        is_number = isinstance(probability, int | float) and not isinstance(probability, bool)
        if not is_number or not 0 <= probability <= 1:
            raise UserError(f"recipe.random_erasing={probability}: must be a probability, from 0 to 1; 0 is off")
        self.probability = probability

    def draw(self, count: int, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        """Draw for ``count`` images of ``size`` (H, W): (count, 4) int64, columns top, left, height and width.

        An image that keeps everything has a rectangle without height and width.
        """
        chosen = np.flatnonzero(rng.random(count) < self.probability)
        area = size[0] * size[1] * rng.uniform(AREA[0], AREA[1], (len(chosen), ATTEMPTS))
        ratio = np.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1]), (len(chosen), ATTEMPTS)))
        place = rng.random((len(chosen), 2))
        sides = np.rint(np.sqrt(np.stack([area * ratio, area / ratio], axis=2))).astype(np.int64)  # (chosen, 10, 2)
        fits = np.all(sides < size, axis=2)
        side = sides[np.arange(len(chosen)), fits.argmax(axis=1)] * np.any(fits, axis=1, keepdims=True)
        rectangles = np.zeros((count, 4), np.int64)
        rectangles[chosen] = np.concatenate([(place * (np.array(size) - side + 1)).astype(np.int64), side], axis=1)
        return rectangles

    def __call__(self, images: Tensor, rectangles: np.ndarray) -> Tensor:
        """Erase ``rectangles`` (N, 4) from normalised ``images`` (N, C, H, W), in place."""
        losing = np.flatnonzero(rectangles[:, 2])
        drawn = torch.from_numpy(np.column_stack([losing, rectangles[losing]])).to(images.device, non_blocking=True)
        numbers, top, left, height, width = drawn.unsqueeze(2).unbind(dim=1)  # (M, 1)
        rows, columns = (torch.arange(side, device=images.device) for side in images.shape[-2:])
        in_rows = (rows >= top) & (rows < top + height)
        in_columns = (columns >= left) & (columns < left + width)
        erased = in_rows.view(-1, 1, len(rows), 1) & in_columns.view(-1, 1, 1, len(columns))
        changed = images.index_select(0, numbers.flatten()).mul_((~erased).to(images.dtype))
        return images.index_copy_(0, numbers.flatten(), changed)
