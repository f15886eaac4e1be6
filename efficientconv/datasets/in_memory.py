"""Data sets small enough to be held in memory."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from efficientconv.datasets.base import ImageData
from efficientconv.errors import UserError, require_whole
from efficientconv.loaders.memory import InMemoryLoader, LabeledImages
from efficientconv.transforms.batch import CropFlip, Normalization


class InMemoryData(ImageData[LabeledImages]):
    """Abstract base of the data sets whose images live on the training device as one tensor; batches are float32.

    Args:
        crop_padding: black pixels added to each side before the random crop; 0 does not crop.
        common: the arguments of ``ImageData``.

    Raises:
        UserError: a value that cannot be.
    """

    published_normalization: Normalization | None = None  # None: computed from all training images

    def __init__(self, *, crop_padding: int = 4, **common: Any) -> None:
        super().__init__(**common)
        require_whole("data.crop_padding", crop_padding, least=0)
        self.augmentation = CropFlip(crop_padding, self.flip)

    @property
    def _normalizes_by_its_training_images(self) -> bool:
        return self.normalize is True and self.published_normalization is None

    def _describe(self, part: LabeledImages) -> None:
        channels, height, width = part.images.shape[1:]
        self.input_size = (channels, height, width)
        if self.normalize is True:
            self.normalization = self.published_normalization or Normalization.of(part.images)
        else:
            self.normalization = self.normalize or None

    def _loader(self, part: LabeledImages, batch_size: int, training: bool) -> InMemoryLoader:
        return InMemoryLoader(
            part.to(self._device),
            batch_size,
            training=training,
            seed=self.seed,
            augmentation=self.augmentation,
            added=self.added,
            normalization=self.normalization,
            rank=self._rank,
            world_size=self._world_size,
        )


def require_channels(channels: Any) -> None:
    """Refuse ``data.channels=channels`` of a set of grey images unless it is 1 or 3.

    Raises:
        UserError: it is not.
    """
    if channels not in (1, 3):
        raise UserError(f"data.channels={channels}: must be 1, the grey images as they are, or 3, three equal ones")


def in_channels(images: Tensor, channels: int) -> Tensor:
    """Give grey ``images`` (N, H, W) as many equal channels: (N, channels, H, W)."""
    return images.unsqueeze(1).repeat(1, channels, 1, 1)
