"""What a recipe adds to crop and flip, for all loaders: a policy's operations on the pixels, and random erasing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from efficientconv.errors import UserError, nearest_first, require_whole
from efficientconv.transforms.autoaugment import CIFAR10, IMAGENET, AutoAugment
from efficientconv.transforms.erasing import RandomErasing
from efficientconv.transforms.operations import Augmenter
from efficientconv.transforms.policies import Policy, RandAugment, TrivialAugment

POLICIES: dict[str, Callable[..., Policy]] = {
    "randaugment": RandAugment,
    "trivialaugment": TrivialAugment,
    "autoaugment_cifar10": lambda: AutoAugment(CIFAR10),
    "autoaugment_imagenet": lambda: AutoAugment(IMAGENET),
}


def parse_policy(value: str | Mapping[str, Any] | None) -> Policy | None:
    """Build the policy that ``recipe.augment`` names: a name, or a mapping of ``policy`` and its options.

    Raises:
        UserError: another name, or an option that cannot be.
    """
    if value is None:
        return None
    options = dict(value) if isinstance(value, Mapping) else {"policy": value}
    name = options.pop("policy", None)
    if name not in POLICIES:
        raise UserError(f"recipe.augment={value}: must be null or one of {nearest_first(str(name), POLICIES)}")
    try:
        return POLICIES[name](**options)
    except TypeError as error:
        takes = "num_ops, magnitude, spread and probability" if name == "randaugment" else "no options"
        raise UserError(f"recipe.augment={value}: {name} takes {takes}") from error
    except ValueError as error:
        raise UserError(f"recipe.augment.{error}") from error


class AddedAugmentation:
    """A policy, random erasing and repeated augmentation, none of which need be there.

    Args:
        policy: for uint8, behind crop and flip.
        erasing: for the normalised batch.
        repeats: how often an epoch shows an image, augmented anew each time.
    """

    def __init__(self, policy: Policy | None = None, erasing: RandomErasing | None = None, repeats: int = 1) -> None:
        self.policy, self.erasing, self.repeats = policy, erasing, repeats
        self._augmenters: dict[tuple[tuple[int, int], torch.device], Augmenter] = {}

    @classmethod
    def parse(
        cls, augment: str | Mapping[str, Any] | None = None, random_erasing: float = 0.0, repeats: int = 1
    ) -> AddedAugmentation:
        """Build it from the recipe.

        Args:
            augment: a name of ``POLICIES``, or a mapping of ``policy`` and its options.
            random_erasing: the probability of an image to lose a rectangle.
            repeats: as above.

        Raises:
            UserError: a value that cannot be.
        """
        require_whole("recipe.repeats", repeats, least=1)
        erasing = RandomErasing(random_erasing)
        return cls(parse_policy(augment), erasing if random_erasing else None, repeats)

    def draw(self, count: int, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        """Draw for ``count`` images of ``size`` (H, W): (count, columns) int64, no columns where nothing is added."""
        codes = self.policy.draw(count, rng) if self.policy else np.empty((count, 0), np.int64)
        return np.concatenate([codes, self.erasing.draw(count, size, rng)], axis=1) if self.erasing else codes

    def change(self, images: Tensor, draws: np.ndarray) -> Tensor:
        """Apply the policy to ``images`` (N, C, H, W) uint8."""
        if self.policy is None:
            return images
        size, device = (images.shape[2], images.shape[3]), images.device
        if (size, device) not in self._augmenters:
            self._augmenters[size, device] = Augmenter(self.policy.steps(size), size, device)
        return self._augmenters[size, device](images, draws[:, :-4] if self.erasing else draws)

    def erase(self, images: Tensor, draws: np.ndarray) -> Tensor:
        """Erase from normalised ``images`` (N, C, H, W), in place."""
        return self.erasing(images, draws[:, -4:]) if self.erasing else images
