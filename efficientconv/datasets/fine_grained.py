"""The fine-grained sets that torchvision knows: its download, its checksums and its folder layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from efficientconv.datasets.base import Splits
from efficientconv.datasets.downloaded import DownloadedData
from efficientconv.datasets.streamed import StreamedData
from efficientconv.errors import UserError
from efficientconv.loaders.image_files import Listing


@dataclass(frozen=True)
class Source:
    """A set in torchvision: its class and folder, which of its splits are which, and where to get it by hand."""

    class_name: str
    folder: str
    needed: tuple[str, ...]
    by_hand: str
    train: str = "train"
    validation: str | None = None


SOURCES = {
    # J. Krause, M. Stark, J. Deng, L. Fei-Fei, "3D Object Representations for Fine-Grained Categorization", 3dRR 2013
    "stanford_cars": Source(
        "StanfordCars",
        "stanford_cars",
        ("cars_train", "cars_test", "devkit", "cars_test_annos_withlabels.mat"),
        "its publisher no longer serves it; https://github.com/pytorch/vision/issues/7545 says where copies are",
    ),
    # M.-E. Nilsback, A. Zisserman, "Automated Flower Classification over a Large Number of Classes", ICVGIP 2008
    "flowers102": Source(
        "Flowers102",
        "flowers-102",
        ("jpg", "imagelabels.mat", "setid.mat"),
        "unpack 102flowers.tgz in {folder}, beside imagelabels.mat and setid.mat, from "
        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
        validation="val",
    ),
    # S. Maji, E. Rahtu, J. Kannala, M. Blaschko, A. Vedaldi, "Fine-Grained Visual Classification of Aircraft", 2013
    "fgvc_aircraft": Source(
        "FGVCAircraft",
        "fgvc-aircraft-2013b",
        ("data",),
        "unpack https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz in {root}",
        validation="val",
    ),
    # O. M. Parkhi, A. Vedaldi, A. Zisserman, C. V. Jawahar, "Cats and Dogs", CVPR 2012
    "oxford_pets": Source(
        "OxfordIIITPet",
        "oxford-iiit-pet",
        ("images", "annotations"),
        "unpack images.tar.gz and annotations.tar.gz in {folder}, from https://www.robots.ox.ac.uk/~vgg/data/pets/",
        train="trainval",
    ),
    # L. Bossard, M. Guillaumin, L. Van Gool, "Food-101: Mining Discriminative Components …", ECCV 2014
    "food101": Source(
        "Food101",
        "food-101",
        ("images", "meta"),
        "unpack http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz in {root}",
    ),
}


class FineGrained(DownloadedData[Listing], StreamedData):
    """One of the sets in ``SOURCES``, with its official splits.

    Args:
        dataset: its name.
        official_validation: for the two sets that have a validation set of their own (flowers102, fgvc_aircraft): keep
            it for validation; false trains on it too and evaluates on the test set, as published figures do.
        common: the arguments of both bases.

    Raises:
        UserError: another name, or a validation set that there is not; or as both bases.
    """

    def __init__(self, dataset: str, official_validation: bool = False, **common: Any) -> None:
        super().__init__(**common)
        if dataset not in SOURCES:
            raise UserError(f"data.dataset={dataset}: must be one of {', '.join(SOURCES)}")
        self.title = dataset
        self.official = SOURCES[dataset]
        self.folder, self.needed, self.by_hand = self.official.folder, self.official.needed, self.official.by_hand
        if official_validation and not self.official.validation:
            raise UserError(f"data.official_validation=true: {dataset} has no validation set of its own; give false")
        self.official_validation = official_validation

    def _fetch(self) -> None:
        for split in self._split_names:
            self._class(str(self.root), split=split, download=True)

    def load(self) -> Splits[Listing]:
        """Read the official lists of each split."""
        self.require_whole_set()
        train, *validation = (self._open(split) for split in self._split_names[:-1])
        test = self._open("test")
        if validation and self.official_validation:
            return Splits(train, test, validation[0])
        return Splits(concatenated([train, *validation]), test)

    @property
    def _split_names(self) -> list[str]:
        return [name for name in (self.official.train, self.official.validation, "test") if name]

    @cached_property
    def _class(self) -> Any:
        from torchvision import datasets

        return getattr(datasets, self.official.class_name)

    def _open(self, split: str) -> Listing:
        try:
            dataset = self._class(str(self.root), split=split)
        except (OSError, RuntimeError, ValueError) as error:
            raise self.unusable(f"torchvision cannot read it: {error}") from error
        self.class_names = list(dataset.classes)
        return listing_of(dataset).require_files(f"data={self.title}")


def listing_of(dataset: Any) -> Listing:
    """Take the files and classes out of one of torchvision's sets, which would otherwise decode each image to tell."""
    if hasattr(dataset, "_samples"):
        pairs = dataset._samples
    else:
        files = dataset._images if hasattr(dataset, "_images") else dataset._image_files
        pairs = list(zip(files, dataset._labels, strict=True))
    return Listing([str(path) for path, _ in pairs], torch.tensor([int(label) for _, label in pairs]))


def concatenated(listings: Sequence[Listing]) -> Listing:
    """Join listings into one."""
    paths = [path for listing in listings for path in listing.paths]
    return Listing(paths, torch.cat([listing.labels for listing in listings]))
