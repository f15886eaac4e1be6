"""CIFAR-10 and CIFAR-100, in the original files, by torchvision's download, checksums and folder layout.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from efficientconv.data.augment import Normalization
from efficientconv.data.base import Splits
from efficientconv.data.in_memory_data import InMemoryData
from efficientconv.data.memory import LabeledImages
from efficientconv.errors import UserError

SOURCES: dict[int, type[datasets.CIFAR10]] = {10: datasets.CIFAR10, 100: datasets.CIFAR100}
NORMALIZATIONS = {  # of all pixels of the training images, as commonly published
    10: Normalization(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)),
    100: Normalization(mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762)),
}


class CIFAR(InMemoryData):
    """50,000 training and 10,000 test images of 32×32 pixels.

    Args:
        classes: 10 or 100, which of the two sets.
        root: folder that holds ``cifar-10-batches-py`` or ``cifar-100-python``, or gets it.
        download: fetch the set where it is not there or not whole.
        common: the arguments of ``InMemoryData``.

    Raises:
        UserError: a number of classes that neither has; from ``prepare_data`` and ``setup``: files missing or damaged.
    """

    def __init__(self, classes: int = 10, root: str = "data", download: bool = True, **common: Any) -> None:
        super().__init__(**common)
        if classes not in SOURCES:
            raise UserError(f"data.classes={classes}: CIFAR has 10 or 100 classes")
        self.title = f"cifar{classes}"
        self.source = SOURCES[classes]
        self.root = Path(root).expanduser()
        self.download = download
        self.published_normalization = NORMALIZATIONS[classes]

    def prepare_data(self) -> None:
        """Download the set unless it is there and whole."""
        if not self._faulty_files():
            return
        if not self.download:
            raise self._unusable("data.download=false forbids fetching it")
        try:
            self.source(self.root, download=True)
        except (OSError, RuntimeError) as error:
            raise self._unusable(f"The download failed: {error}") from error

    def load(self) -> Splits[LabeledImages]:
        """Read all batches of the set."""
        if self._faulty_files():
            raise self._unusable("It was not fetched")
        train, test = (self.source(self.root, train=part) for part in (True, False))
        self.class_names = list(train.classes)
        return Splits(_as_images(train), _as_images(test))

    def _faulty_files(self) -> list[str]:
        """List the set's files that are not there or whose checksum is not the published one."""
        meta = self.source.meta
        expected = [*self.source.train_list, *self.source.test_list, (meta["filename"], meta["md5"])]
        folder = self.root / self.source.base_folder
        return [name for name, md5 in expected if not check_integrity(str(folder / name), md5)]

    def _unusable(self, reason: str) -> UserError:
        faulty = self._faulty_files()
        folder = self.root.absolute() / self.source.base_folder
        missing = [name for name in faulty if not (folder / name).exists()]
        damaged = [name for name in faulty if name not in missing]
        lists = {"missing": missing, "damaged": damaged}
        found = "; ".join(f"{what}: {', '.join(names)}" for what, names in lists.items() if names)
        command = f"mkdir -p {self.root} && curl -L {self.source.url} | tar -xz -C {self.root}"
        return UserError(
            f"data={self.title}: looked in {folder} ({found}). {reason}. To fetch it by hand: {command}   "
            "(data=digits needs no download)"
        )


def _as_images(dataset: Any) -> LabeledImages:
    images = torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous()  # from (N, H, W, 3)
    return LabeledImages(images, torch.tensor(dataset.targets))
