"""Images of noise, for measuring speed where no data set is at hand."""

from __future__ import annotations

from typing import Any

import torch

from efficientconv.datasets.base import Splits
from efficientconv.datasets.in_memory import InMemoryData
from efficientconv.errors import require_whole
from efficientconv.loaders.memory import LabeledImages


class RandomImages(InMemoryData):
    """Noise in as many classes, in turn: nothing can be learnt from it.

    Args:
        images: for training; a fifth as many, and at least one of each class, for the test.
        classes: how many.
        image_size: height and width in pixels.
        common: the arguments of ``InMemoryData``.

    Raises:
        UserError: a value that cannot be.
    """

    title = "random"

    def __init__(self, images: int = 50_000, classes: int = 10, image_size: int = 32, **common: Any) -> None:
        super().__init__(**common)
        require_whole("data.classes", classes, least=1)
        require_whole("data.images", images, least=classes)
        require_whole("data.image_size", image_size, least=1)
        self.images = images
        self.image_size = image_size
        self.class_names = [str(i) for i in range(classes)]

    def load(self) -> Splits[LabeledImages]:
        """Draw the images, the same whatever the seed."""
        generator = torch.Generator().manual_seed(0)
        return Splits(
            self._draw(self.images, generator), self._draw(max(self.images // 5, self.num_classes), generator)
        )

    def _draw(self, count: int, generator: torch.Generator) -> LabeledImages:
        shape = (count, 3, self.image_size, self.image_size)
        images = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
        return LabeledImages(images, torch.arange(count) % self.num_classes)
