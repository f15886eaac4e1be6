"""Rectangles erased from the images of a normalised batch.

Z. Zhong, L. Zheng, G. Kang, S. Li, Y. Yang, "Random Erasing Data Augmentation", AAAI 2020; as torchvision's
``RandomErasing`` with its defaults, behind ``Normalize``: what is erased becomes 0, the mean colour.
"""

from __future__ import annotations

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

        An image that keeps everything has a rectangle without height and width. As much is drawn for it.
        """
        chosen = rng.random(count) < self.probability
        area = size[0] * size[1] * rng.uniform(*AREA, (count, ATTEMPTS))
        ratio = np.exp(rng.uniform(*np.log(RATIO), (count, ATTEMPTS)))
        place = rng.random((count, 2))
        sides = np.rint(np.sqrt(np.stack([area * ratio, area / ratio], axis=2))).astype(np.int64)  # (count, 10, 2)
        fits = (sides < size).all(axis=2) & chosen[:, None]
        side = sides[np.arange(count), fits.argmax(axis=1)] * fits.any(axis=1, keepdims=True)
        return np.concatenate([(place * (np.array(size) - side + 1)).astype(np.int64), side], axis=1)

    def __call__(self, images: Tensor, rectangles: Tensor) -> Tensor:
        """Erase ``rectangles`` (N, 4) from normalised ``images`` (N, C, H, W), in place."""
        top, left, height, width = rectangles.unsqueeze(2).unbind(dim=1)  # (N, 1)
        rows, columns = (torch.arange(side, device=images.device) for side in images.shape[-2:])
        in_rows = (rows >= top) & (rows < top + height)
        in_columns = (columns >= left) & (columns < left + width)
        return images.masked_fill_((in_rows.unsqueeze(2) & in_columns.unsqueeze(1)).unsqueeze(1), 0)
