"""Data sets small enough to be held in memory."""

from __future__ import annotations

from typing import Any

from efficientconv.datasets.base import ImageData
from efficientconv.errors import require_whole
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

    def _describe(self, train: LabeledImages) -> None:
        channels, height, width = train.images.shape[1:]
        self.input_size = (channels, height, width)
        if self.normalize is True:
            self.normalization = self.published_normalization or Normalization.of(train.images)
        else:
            self.normalization = self.normalize or None

    def _loader(self, part: LabeledImages, batch_size: int, training: bool) -> InMemoryLoader:
        return InMemoryLoader(
            part.to(self._device),
            batch_size,
            training=training,
            seed=self.seed,
            augmentation=self.augmentation,
            normalization=self.normalization,
            rank=self._rank,
            world_size=self._world_size,
        )
