"""Small images held in memory on the training device, and the loader that hands them out batch by batch."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from efficientconv.loaders.epochs import EpochLoader
from efficientconv.transforms.batch import CropFlip, Normalization, to_float


@dataclass(frozen=True)
class LabeledImages:
    """Images (N, C, H, W) uint8 and their classes (N,) int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, positions: Tensor) -> LabeledImages:
        """Copy the images at ``positions`` (M,) int64."""
        return LabeledImages(self.images.index_select(0, positions), self.labels.index_select(0, positions))

    def to(self, device: torch.device) -> LabeledImages:
        """Move to ``device``; no copy where they are there already."""
        return LabeledImages(self.images.to(device), self.labels.to(device))


class InMemoryLoader(EpochLoader):
    """Batches of images that live on one device as one tensor: cropped, flipped and normalised there, all at once.

    Images are float32, on the device of the data.

    Args:
        data: the images, on the device where the batches are wanted.
        batch_size: images in a batch, for each rank.
        training: shuffle and augment; else in order, as they are.
        seed: of the order and the augmentation, at least 0.
        augmentation: applied in training.
        normalization: None leaves the pixels in [0, 1].
        rank: of this process, from 0.
        world_size: how many processes share the epoch.
    """

    def __init__(
        self,
        data: LabeledImages,
        batch_size: int,
        *,
        training: bool,
        seed: int = 0,
        augmentation: CropFlip | None = None,
        normalization: Normalization | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(len(data), batch_size, training=training, seed=seed, rank=rank, world_size=world_size)
        self.data = data
        self.augmentation = augmentation or CropFlip(padding=0, flip=False)
        self.mean_std = normalization.tensors(data.images.device) if normalization else None

    def _batches(self, first: int) -> Generator[tuple[Tensor, Tensor], None, None]:
        order, draws = self._plan()
        for batch in range(first, len(self)):
            chosen = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
            yield self._load(order[chosen], draws[chosen])

    def _plan(self) -> tuple[Tensor, Tensor]:
        """Draw the epoch: this rank's images in order (M,), and what the augmentation does to each (M, 3)."""
        count, device = len(self.data), self.data.labels.device
        if not self.training:
            order = torch.arange(self.rank, count, self.world_size, device=device)
            return order, order
        rng = np.random.default_rng((self.seed, self._epoch))  # on the CPU: the same numbers for every device
        order = torch.from_numpy(rng.permutation(count))
        draws = self.augmentation.draw(count, rng)
        return self._share(order).to(device), self._share(draws).to(device)

    def _load(self, positions: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        batch = self.data.subset(positions)
        images = self.augmentation(batch.images, draws) if self.training else batch.images
        return to_float(images, self.mean_std), batch.labels
