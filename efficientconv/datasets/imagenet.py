"""ImageNet (ILSVRC 2012), as it lies on people's disks.

O. Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015, arXiv:1409.0575.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch

from efficientconv.datasets.base import Splits
from efficientconv.datasets.streamed import StreamedData
from efficientconv.errors import UserError
from efficientconv.loaders.image_files import Listing, list_classes, list_images

DEVKIT = "ILSVRC2012_devkit_t12/data"
DEVKIT_LABELS = f"{DEVKIT}/ILSVRC2012_validation_ground_truth.txt"
DEVKIT_CLASSES = f"{DEVKIT}/meta.mat"
KAGGLE_LABELS = "LOC_val_solution.csv"


class ImageNet(StreamedData):
    """1,281,167 training and 50,000 validation images of 1,000 classes, in the order of their WordNet ids.

    The validation set is what everybody reports on: here it is the test set. It lies in ``val/<wnid>/``, or flat in
    ``val/`` beside the official ground truth: the development kit, or the table that comes with Kaggle's copy.

    Args:
        root: folder that holds ``train/<wnid>/*.JPEG`` and ``val``.
        common: the arguments of ``StreamedData``.

    Raises:
        UserError: from ``prepare_data`` and ``setup``: the set is not there, or not whole.
    """

    title = "imagenet"

    def __init__(self, root: str, **common: Any) -> None:
        super().__init__(**common)
        self.root = Path(root).expanduser().absolute()

    def prepare_data(self) -> None:
        """Refuse early what is not there; ImageNet cannot be fetched without an account."""
        if self._test is None:  # else the test images alone were asked for, and are there
            self._require("train", "val")

    def prepare_test(self) -> None:
        """Refuse early what is not there; the test images lie in ``val``."""
        self._require("val")

    def _require(self, *folders: str) -> None:
        missing = [name for name in folders if not (self.root / name).is_dir()]
        if missing:
            raise UserError(
                f"data=imagenet: looked in {self.root} (missing: {', '.join(missing)}). With an account at "
                "https://image-net.org/download-images fetch ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar and "
                f"unpack them into {self.root}/train/<wnid>/ and {self.root}/val/, with ILSVRC2012_devkit_t12.tar.gz "
                f"beside them in {self.root}   (data=digits needs no download)"
            )

    def load(self) -> Splits[Listing]:
        """List the files."""
        self._require("train", "val")
        return Splits(self._list_classes("train", self._wnids()), self.load_test())

    def load_test(self) -> Listing:
        """List the files of the validation set; the training images need not be there."""
        self._require("val")
        wnids = self._wnids()
        has_classes = any(entry.is_dir() for entry in (self.root / "val").iterdir())
        return self._list_classes("val", wnids) if has_classes else self._list_flat(wnids)

    def _wnids(self) -> list[str]:
        """Return the WordNet ids in their order, and set the names of the classes."""
        from timm.data import ImageNetInfo  # three seconds

        info = ImageNetInfo()
        self.class_names = list(info.label_descriptions())
        return info.label_names()

    def _list_classes(self, name: str, wnids: list[str]) -> Listing:
        folders, listing = list_classes(self.root / name)
        if folders != wnids:
            missing, unknown = sorted(set(wnids) - set(folders)), sorted(set(folders) - set(wnids))
            lists = {"missing": missing, "unknown": unknown}
            named = "; ".join(f"{what}: {', '.join(names[:5])}" for what, names in lists.items() if names)
            raise UserError(
                f"data=imagenet: {self.root / name}: 1,000 classes expected and {len(folders):,} found ({named}); "
                "any other set of classes is data=image_folder"
            )
        return listing

    def _list_flat(self, wnids: list[str]) -> Listing:
        paths = list(list_images(self.root / "val"))
        truth = self._ground_truth()
        unknown = [path for path in paths if Path(path).stem not in truth]
        if unknown or len(paths) != len(truth):
            raise UserError(
                f"data=imagenet: {self.root / 'val'} has {len(paths):,} images and the ground truth {len(truth):,}"
                + (f"; not in it: {Path(unknown[0]).name}" if unknown else "")
            )
        index = {wnid: i for i, wnid in enumerate(wnids)}
        return Listing(paths, torch.tensor([index[truth[Path(path).stem]] for path in paths]))

    def _ground_truth(self) -> dict[str, str]:
        """Read the WordNet id of each validation image, by the stem of its name."""
        if (self.root / KAGGLE_LABELS).exists():
            return read_kaggle_labels(self.root / KAGGLE_LABELS)
        if all((self.root / name).exists() for name in (DEVKIT_LABELS, DEVKIT_CLASSES)):
            return read_devkit_labels(self.root / DEVKIT_LABELS, self.root / DEVKIT_CLASSES)
        raise UserError(
            f"data=imagenet: {self.root / 'val'} has no class folders, so the ground truth is needed: unpack "
            f"ILSVRC2012_devkit_t12.tar.gz in {self.root} (looked for {DEVKIT_LABELS} and {DEVKIT_CLASSES}), or put "
            f"Kaggle's {KAGGLE_LABELS} there"
        )


def read_kaggle_labels(path: Path) -> dict[str, str]:
    """Read lines such as ``ILSVRC2012_val_00048981,n03995372 85 1 499 272``: the first word is the class."""
    with open(path, newline="") as file:
        return {row["ImageId"]: row["PredictionString"].split()[0] for row in csv.DictReader(file)}


def read_devkit_labels(labels: Path, classes: Path) -> dict[str, str]:
    """Read the kit's number of each image's class, and look up its WordNet id: the kit has an order of its own."""
    from scipy.io import loadmat

    synsets = loadmat(classes, squeeze_me=True)["synsets"]
    wnids = {int(number): str(wnid) for number, wnid in zip(synsets["ILSVRC2012_ID"], synsets["WNID"], strict=True)}
    numbers = labels.read_text().split()
    return {f"ILSVRC2012_val_{i:08d}": wnids[int(number)] for i, number in enumerate(numbers, 1)}
