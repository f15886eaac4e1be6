"""Which operations change an image, and by how much: RandAugment, TrivialAugment, and the base of all policies.

As in torchvision: its operations, magnitudes and probabilities. Only where the random numbers come from differs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from efficientconv.transforms.operations import MOVES, Step

BINS = 31  # magnitudes of RandAugment and TrivialAugment
ENHANCEMENTS = ("Brightness", "Color", "Contrast", "Sharpness")
SIGNED = (*MOVES, *ENHANCEMENTS)  # half of them drawn with a negative magnitude
SPACE = ("Identity", *MOVES, *ENHANCEMENTS, "Posterize", "Solarize", "AutoContrast", "Equalize")


@dataclass(frozen=True)
class Ranges:
    """The largest magnitude of each operation; the smallest is 0.

    Attributes:
        shear: tangent of the angle.
        translate: pixels; ``None`` is 150/331 of the image's side.
        rotate: degrees.
        enhance: distance of the factor of brightness, colour, contrast and sharpness from 1.
        bits: of 8, taken away by Posterize.
    """

    shear: float = 0.3
    translate: float | None = None
    rotate: float = 30.0
    enhance: float = 0.9
    bits: int = 4

    def magnitudes(self, operation: str, bins: int, size: tuple[int, int]) -> list[float]:
        """Return ``bins`` magnitudes of an operation on images of ``size`` (H, W), in steps, in torchvision's units."""
        if operation == "Posterize":
            return (8 - torch.arange(bins) / ((bins - 1) / self.bits)).round().tolist()
        if operation == "Solarize":
            return torch.linspace(1.0, 0.0, bins).tolist()
        return torch.linspace(0.0, self._largest(operation, size), bins).tolist()

    def _largest(self, operation: str, size: tuple[int, int]) -> float:
        if operation.startswith("Translate"):
            side = size[1] if operation.endswith("X") else size[0]
            return 150.0 / 331.0 * side if self.translate is None else self.translate
        if operation.startswith("Shear"):
            return self.shear
        return {"Rotate": self.rotate}.get(operation, self.enhance if operation in ENHANCEMENTS else 0.0)


class Policy(ABC):
    """Abstract base: the steps that there are, and which of them, in order, each image gets."""

    @abstractmethod
    def steps(self, size: tuple[int, int]) -> list[Step]:
        """Return all steps that may be drawn for images of ``size`` (H, W)."""

    @abstractmethod
    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw for ``count`` images: (count, layers) int64, numbers of steps."""


class RandAugment(Policy):
    """Several operations of fourteen, by one magnitude.

    E. D. Cubuk, B. Zoph, J. Shlens, Q. V. Le, "RandAugment: Practical Automated Data Augmentation with a Reduced Search
    Space", NeurIPS 2020. ``spread`` and ``probability`` are timm's additions.

    Args:
        num_ops: operations, one after the other.
        magnitude: of all of them, from 0 to 30.
        spread: standard deviation of the magnitude, drawn for each operation and rounded to a whole number.
        probability: of each operation to be done.

    Raises:
        ValueError: a value that cannot be.
    """

    def __init__(self, num_ops: int = 2, magnitude: int = 9, spread: float = 0.0, probability: float = 1.0) -> None:
        if type(num_ops) is not int or num_ops < 1:
            raise ValueError(f"num_ops={num_ops}: must be a whole number of at least 1")
        if type(magnitude) is not int or not 0 <= magnitude < BINS:
            raise ValueError(f"magnitude={magnitude}: must be a whole number from 0 to {BINS - 1}")
        if not isinstance(spread, int | float) or not 0 <= spread < BINS:
            raise ValueError(f"spread={spread}: must be a number from 0 to {BINS - 1}, of the magnitude's steps")
        if not isinstance(probability, int | float) or not 0 <= probability <= 1:
            raise ValueError(f"probability={probability}: must be a number from 0 to 1")
        self.num_ops, self.magnitude, self.spread, self.probability = num_ops, magnitude, spread, probability
        self.bins = range(BINS) if spread else range(magnitude, magnitude + 1)

    def steps(self, size: tuple[int, int]) -> list[Step]:
        """As `Policy.steps`."""
        return signed_steps(Ranges(), self.bins, size)

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """As `Policy.draw`."""
        shape = (count, self.num_ops)
        codes = draw_codes(rng, shape, self._draw_bins(shape, rng), len(self.bins))
        return codes if self.probability == 1 else np.where(rng.random(shape) < self.probability, codes, 0)

    def _draw_bins(self, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        if not self.spread:
            return np.zeros(shape, np.int64)
        return np.rint(rng.normal(self.magnitude, self.spread, shape)).clip(0, BINS - 1).astype(np.int64)


class TrivialAugment(Policy):
    """One operation of fourteen, by any magnitude of a wide range.

    S. G. Müller, F. Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation", ICCV 2021: "Wide".
    """

    ranges = Ranges(shear=0.99, translate=32.0, rotate=135.0, enhance=0.99, bits=6)

    def steps(self, size: tuple[int, int]) -> list[Step]:
        """As `Policy.steps`."""
        return signed_steps(self.ranges, range(BINS), size)

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """As `Policy.draw`."""
        return draw_codes(rng, (count, 1), rng.integers(0, BINS, (count, 1)), BINS)


def signed_steps(ranges: Ranges, bins: Sequence[int], size: tuple[int, int]) -> list[Step]:
    """List each operation at each of ``bins``, of 31, with both signs; the first ones do nothing."""
    magnitudes = {operation: ranges.magnitudes(operation, BINS, size) for operation in SPACE}
    return [
        Step(operation, -magnitudes[operation][i] if negative and operation in SIGNED else magnitudes[operation][i])
        for operation in SPACE
        for i in bins
        for negative in (False, True)
    ]


def draw_codes(rng: np.random.Generator, shape: tuple[int, int], bins: np.ndarray, count: int) -> np.ndarray:
    """Draw operations and signs, and return the numbers in ``signed_steps`` of those at ``bins``, of ``count``."""
    return (rng.integers(0, len(SPACE), shape) * count + bins) * 2 + rng.integers(0, 2, shape)
