"""The usual PyTorch loaders, for comparison: a ``DataLoader`` that decodes and transforms image by image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from efficientconv.datasets import InMemoryData
from efficientconv.errors import UserError
from efficientconv.loaders import LabeledImages
from efficientconv.loaders.image_files import Listing
from efficientconv.loaders.stream import StreamLoader
from efficientconv.transforms import RandomAreaCrop
from efficientconv.transforms.added import AddedAugmentation
from efficientconv.transforms.autoaugment import CIFAR10, AutoAugment
from efficientconv.transforms.batch import Normalization
from efficientconv.transforms.image import Flip
from efficientconv.transforms.policies import Policy, RandAugment


def plain_photographs(template: StreamLoader, listing: Listing, device: torch.device) -> DataLoader:
    """Load photographs as torchvision's reference script for classification does.

    Args:
        template: has the crop, the batch size and the number of processes.
        listing: the files.
        device: destination of the batches.

    Raises:
        UserError: the template's crop or transforms differ from the script's, or torchvision lacks what is added.
    """
    from torchvision.transforms import v2

    policy, erasing = torchvisions(template.added)
    crop, flips = template.crop, [isinstance(transform, Flip) for transform in template.transforms]
    if not isinstance(crop, RandomAreaCrop) or not all(flips):
        raise UserError(
            "bench loader: torchvision's reference script crops random areas and flips; "
            "recipe=imagenet_step data.color_jitter=null does the same"
        )
    steps: list[Any] = [v2.RandomResizedCrop(crop.size, scale=crop.area, ratio=crop.ratio, antialias=True)]
    steps += [*(v2.RandomHorizontalFlip() for _ in flips), *policy, v2.PILToTensor()]
    steps += [v2.ToDtype(torch.float, scale=True), *_normalize(template.normalization), *erasing]
    dataset = Photographs(listing, v2.Compose(steps))
    return _loader(dataset, template.batch_size, template.workers, device)


def plain_small_images(data: InMemoryData, part: LabeledImages, workers: int, device: torch.device) -> DataLoader:
    """Load small images as torchvision's ``CIFAR10`` does with its usual transforms.

    Args:
        data: has the augmentation and the batch size.
        part: the images.
        workers: number of processes.
        device: destination of the batches.

    Raises:
        UserError: torchvision lacks what the recipe adds.
    """
    from torchvision import transforms

    policy, erasing = torchvisions(data.added)
    steps: list[Any] = []
    if data.augmentation.padding:
        steps.append(transforms.RandomCrop(part.images.shape[-1], padding=data.augmentation.padding))
    if data.augmentation.flip:
        steps.append(transforms.RandomHorizontalFlip())
    steps += [*policy, transforms.ToTensor(), *_normalize(data.normalization), *erasing]
    return _loader(SmallImages(part, transforms.Compose(steps)), data.batch_size, workers, device)


def torchvisions(added: AddedAugmentation) -> tuple[list[Any], list[Any]]:
    """Return torchvision's own transforms for what a recipe adds: for Pillow's image, and for what is normalised.

    Raises:
        UserError: torchvision has none: for repeated augmentation, and for timm's additions to RandAugment.
    """
    from torchvision.transforms import v2

    policy = [] if added.policy is None else [_torchvisions_policy(added.policy)]
    if added.repeats > 1 or None in policy:
        raise UserError(
            "bench loader: the plain loader takes torchvision's own transforms, which has none for recipe.repeats, nor "
            "for spread and probability of recipe.augment"
        )
    return policy, [v2.RandomErasing(added.erasing.probability)] if added.erasing else []


def _torchvisions_policy(policy: Policy) -> Any:
    from torchvision.transforms import v2

    if isinstance(policy, RandAugment):
        is_plain = policy.spread == 0 and policy.probability == 1
        return v2.RandAugment(policy.num_ops, policy.magnitude) if is_plain else None
    if isinstance(policy, AutoAugment):
        of = v2.AutoAugmentPolicy.CIFAR10 if policy.pairs is CIFAR10 else v2.AutoAugmentPolicy.IMAGENET
        return v2.AutoAugment(of)
    return v2.TrivialAugmentWide()


def _normalize(normalization: Normalization | None) -> list[Any]:
    from torchvision.transforms import v2

    return [v2.Normalize(normalization.mean, normalization.std)] if normalization else []


def _loader(dataset: Dataset, batch_size: int, workers: int, device: torch.device) -> DataLoader:
    """Set up the loader as the script does, except that its workers persist between passes, which makes it faster."""
    return DataLoader(
        dataset,
        batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )


class Photographs(Dataset[tuple[Tensor, int]]):
    """Loads one file as torchvision's ``ImageFolder`` does, for any listing.

    Args:
        listing: the files.
        transform: maps a Pillow image to a tensor.
    """

    def __init__(self, listing: Listing, transform: Callable[[Image.Image], Tensor]) -> None:
        self.listing, self.transform = listing, transform

    def __len__(self) -> int:
        return len(self.listing)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        from torchvision.datasets.folder import default_loader

        return self.transform(default_loader(self.listing.paths[i])), int(self.listing.labels[i])


class SmallImages(Dataset[tuple[Tensor, int]]):
    """Returns one image as torchvision's ``CIFAR10`` does.

    Args:
        part: the images.
        transform: maps a Pillow image to a tensor.
    """

    def __init__(self, part: LabeledImages, transform: Callable[[Image.Image], Tensor]) -> None:
        self.pixels = np.ascontiguousarray(part.images.permute(0, 2, 3, 1).squeeze(-1).numpy())  # grey: (N, H, W)
        self.labels = part.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[i])), self.labels[i]
