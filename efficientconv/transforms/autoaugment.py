"""AutoAugment: pairs of operations that a search has found on a data set.

E. D. Cubuk, B. Zoph, D. Mané, V. Vasudevan, Q. V. Le, "AutoAugment: Learning Augmentation Strategies from Data", CVPR
2019; the pairs are those of torchvision, of the appendix of arXiv:1805.09501.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from efficientconv.transforms.operations import Step
from efficientconv.transforms.policies import SIGNED, Policy, Ranges

LEVELS = 10

Part = tuple[str, float, int]
"""An operation, its probability, and its magnitude from 0 to 9."""


class AutoAugment(Policy):
    """One of 25 pairs of operations, such as `CIFAR10` and `IMAGENET`.

    Args:
        pairs: done one after the other, each with its own probability.
    """

    def __init__(self, pairs: Sequence[tuple[Part, Part]]) -> None:
        self.pairs = pairs
        self.probabilities = np.array([[part[1] for part in pair] for pair in pairs])

    def steps(self, size: tuple[int, int]) -> list[Step]:
        """As `Policy.steps`."""
        steps = [Step("Identity")]
        for operation, _, level in (part for pair in self.pairs for part in pair):
            magnitude = Ranges().magnitudes(operation, LEVELS, size)[level]
            steps += [Step(operation, magnitude), Step(operation, -magnitude if operation in SIGNED else magnitude)]
        return steps

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """As `Policy.draw`."""
        chosen = rng.integers(0, len(self.pairs), count)
        done = rng.random((count, 2)) < self.probabilities[chosen]
        codes = 1 + (2 * chosen[:, None] + np.arange(2)) * 2 + rng.integers(0, 2, (count, 2))
        return np.where(done, codes, 0)


CIFAR10: tuple[tuple[Part, Part], ...] = (
    (("Invert", 0.1, 0), ("Contrast", 0.2, 6)),
    (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
    (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
    (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.5, 0), ("Equalize", 0.9, 0)),
    (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
    (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
    (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
    (("Equalize", 0.6, 0), ("Equalize", 0.5, 0)),
    (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
    (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
    (("Equalize", 0.3, 0), ("AutoContrast", 0.4, 0)),
    (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
    (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
    (("Solarize", 0.5, 2), ("Invert", 0.0, 0)),
    (("Equalize", 0.2, 0), ("AutoContrast", 0.6, 0)),
    (("Equalize", 0.2, 0), ("Equalize", 0.6, 0)),
    (("Color", 0.9, 9), ("Equalize", 0.6, 0)),
    (("AutoContrast", 0.8, 0), ("Solarize", 0.2, 8)),
    (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
    (("Solarize", 0.4, 5), ("AutoContrast", 0.9, 0)),
    (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.9, 0), ("Solarize", 0.8, 3)),
    (("Equalize", 0.8, 0), ("Invert", 0.1, 0)),
    (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, 0)),
)

IMAGENET: tuple[tuple[Part, Part], ...] = (
    (("Posterize", 0.4, 8), ("Rotate", 0.6, 9)),
    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 0)),
    (("Equalize", 0.8, 0), ("Equalize", 0.6, 0)),
    (("Posterize", 0.6, 7), ("Posterize", 0.6, 6)),
    (("Equalize", 0.4, 0), ("Solarize", 0.2, 4)),
    (("Equalize", 0.4, 0), ("Rotate", 0.8, 8)),
    (("Solarize", 0.6, 3), ("Equalize", 0.6, 0)),
    (("Posterize", 0.8, 5), ("Equalize", 1.0, 0)),
    (("Rotate", 0.2, 3), ("Solarize", 0.6, 8)),
    (("Equalize", 0.6, 0), ("Posterize", 0.4, 6)),
    (("Rotate", 0.8, 8), ("Color", 0.4, 0)),
    (("Rotate", 0.4, 9), ("Equalize", 0.6, 0)),
    (("Equalize", 0.0, 0), ("Equalize", 0.8, 0)),
    (("Invert", 0.6, 0), ("Equalize", 1.0, 0)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Rotate", 0.8, 8), ("Color", 1.0, 2)),
    (("Color", 0.8, 8), ("Solarize", 0.8, 7)),
    (("Sharpness", 0.4, 7), ("Invert", 0.6, 0)),
    (("ShearX", 0.6, 5), ("Equalize", 1.0, 0)),
    (("Color", 0.4, 0), ("Equalize", 0.6, 0)),
    (("Equalize", 0.4, 0), ("Solarize", 0.2, 4)),
    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 0)),
    (("Invert", 0.6, 0), ("Equalize", 1.0, 0)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Equalize", 0.8, 0), ("Equalize", 0.6, 0)),
)
