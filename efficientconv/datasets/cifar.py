"""CIFAR-10 and CIFAR-100, in the original files, by torchvision's download, checksums and folder layout.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

from typing import Any

import torch
from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from efficientconv.datasets.base import Splits
from efficientconv.datasets.downloaded import DownloadedData
from efficientconv.datasets.in_memory import InMemoryData
from efficientconv.errors import UserError
from efficientconv.loaders.memory import LabeledImages
from efficientconv.transforms.batch import Normalization

SOURCES: dict[int, type[datasets.CIFAR10]] = {10: datasets.CIFAR10, 100: datasets.CIFAR100}
NORMALIZATIONS = {  # of all pixels of the training images, as commonly published
    10: Normalization(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)),
    100: Normalization(mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762)),
}


class CIFAR(DownloadedData[LabeledImages], InMemoryData):
    """50,000 training and 10,000 test images of 32×32 pixels.

    Args:
        classes: 10 or 100, which of the two sets.
        common: the arguments of both bases.

    Raises:
        UserError: a number of classes that neither has; from ``prepare_data`` and ``setup``: files missing or damaged.
    """

    def __init__(self, classes: int = 10, **common: Any) -> None:
        super().__init__(**common)
        if classes not in SOURCES:
            raise UserError(f"data.classes={classes}: CIFAR has 10 or 100 classes")
        self.title = f"cifar{classes}"
        self.source = SOURCES[classes]
        self.folder = self.source.base_folder
        meta = self.source.meta
        self.md5 = dict([*self.source.train_list, *self.source.test_list, (meta["filename"], meta["md5"])])
        self.needed = list(self.md5)
        self.needed_for_test = [name for name in self.needed if name not in dict(self.source.train_list)]
        self.by_hand = f"mkdir -p {{root}} && curl -L {self.source.url} | tar -xz -C {{root}}"
        self.published_normalization = NORMALIZATIONS[classes]

    def load(self) -> Splits[LabeledImages]:
        """Read all batches of the set."""
        self.require_whole(self.needed)
        return Splits(_as_images(self.source(self.root, train=True)), self.load_test())

    def load_test(self) -> LabeledImages:
        """Read the batch of test images; the others need not be there."""
        self.require_whole(self.needed_for_test)
        test = _without_training_files(self.source)(self.root, train=False)
        self.class_names = list(test.classes)
        return _as_images(test)

    def _is_whole(self, name: str) -> bool:
        return check_integrity(str(self.base / name), self.md5[name])

    def _fetch(self) -> None:
        self.source(self.root, download=True)


def _without_training_files(source: type[datasets.CIFAR10]) -> type[datasets.CIFAR10]:
    """Return torchvision's class for the test images alone: it opens only where all files that it lists are there."""
    return type(source.__name__, (source,), {"train_list": []})


def _as_images(dataset: Any) -> LabeledImages:
    images = torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous()  # from (N, H, W, 3)
    return LabeledImages(images, torch.tensor(dataset.targets))
