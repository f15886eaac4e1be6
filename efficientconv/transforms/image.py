"""What is done to one photograph on its way to the network, once for torchvision and once for DALI.

Both forms take the same random numbers, which depend on the seed, the epoch and the batch alone. So which of the two
loaders reads the images changes neither what is shown nor where a restarted run goes on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from efficientconv.errors import UserError


class ImageTransform(ABC):
    """Abstract base: numbers drawn for a batch, and what they do to an image (torchvision) or a batch (DALI)."""

    columns: int  # numbers for an image

    @abstractmethod
    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw for ``count`` images: (count, columns) float64."""

    @abstractmethod
    def __call__(self, image: Tensor, numbers: np.ndarray) -> Tensor:
        """Transform ``image`` (3, H, W) uint8 by its ``numbers`` (columns,)."""

    @abstractmethod
    def in_dali(self, images: Any, numbers: Any) -> Any:
        """Add the same to a DALI pipeline: ``images`` (H, W, 3) uint8 on either device, ``numbers`` on the CPU."""


class Flip(ImageTransform):
    """Mirror half of the images left and right."""

    columns = 1

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw 0 or 1 for each image."""
        return rng.integers(0, 2, (count, 1)).astype(np.float64)

    def __call__(self, image: Tensor, numbers: np.ndarray) -> Tensor:
        """Mirror where the number is 1."""
        return image.flip(-1) if numbers[0] else image

    def in_dali(self, images: Any, numbers: Any) -> Any:
        """As above."""
        from nvidia.dali import fn, types

        return fn.flip(images, horizontal=fn.cast(numbers[0], dtype=types.INT32))


class ColorJitter(ImageTransform):
    """Brightness, contrast and saturation, each by a random factor, as torchvision's ``ColorJitter``.

    torchvision draws the order of the three for each image; here it is always the one above.

    Args:
        brightness: b, for a factor between max(0, 1 − b) and 1 + b.
        contrast: the same for the distance to the image's mean grey.
        saturation: the same for the distance to each pixel's own grey.

    Raises:
        ValueError: a negative value.
    """

    columns = 3

    def __init__(self, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0) -> None:
        self.strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        for name, strength in self.strengths.items():
            if not isinstance(strength, int | float) or strength < 0:
                raise ValueError(f"{name}={strength}: must be a number of at least 0; 0 leaves it alone")

    @classmethod
    def parse(cls, value: Mapping[str, float]) -> ColorJitter:
        """Build it from ``data.color_jitter``.

        Raises:
            UserError: another key than the three, or a value that cannot be.
        """
        try:
            return cls(**value)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"data.color_jitter={value}: must be null or any of {{brightness, contrast, saturation}} ({error})"
            ) from error

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw the three factors of each image."""
        strengths = np.array(list(self.strengths.values()))
        low = np.maximum(0, 1 - strengths)
        return low + (1 + strengths - low) * rng.random((count, 3))

    def __call__(self, image: Tensor, numbers: np.ndarray) -> Tensor:
        """Change what has a strength, by torchvision."""
        from torchvision.transforms.v2 import functional

        changes = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation)
        for strength, change, factor in zip(self.strengths.values(), changes, numbers.tolist(), strict=True):
            if strength:
                image = change(image, factor)
        return image

    def in_dali(self, images: Any, numbers: Any) -> Any:
        """Change what has a strength, in DALI."""
        from nvidia.dali import fn, types

        factors = fn.cast(numbers, dtype=types.FLOAT)
        if self.strengths["brightness"]:
            images = fn.brightness(images, brightness=factors[0])
        if self.strengths["contrast"]:
            grey = fn.color_space_conversion(images, image_type=types.RGB, output_type=types.GRAY)
            images = fn.contrast(images, contrast=factors[1], contrast_center=_on_cpu(fn.reductions.mean(grey)))
        if self.strengths["saturation"]:
            images = fn.saturation(images, saturation=factors[2])
        return images


def _on_cpu(node: Any) -> Any:
    """Bring a DALI node to the CPU, where arguments of operators are expected."""
    return node.cpu() if node.device == "gpu" else node
