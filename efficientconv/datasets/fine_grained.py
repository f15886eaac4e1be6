"""Fine-grained photographs: five sets by torchvision's download and layout, Stanford Dogs, CUB-200-2011."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from efficientconv.datasets.base import Splits
from efficientconv.datasets.downloaded import DownloadedData
from efficientconv.datasets.streamed import StreamedData
from efficientconv.errors import UserError
from efficientconv.loaders.image_files import Listing

DOGS_SITE = "http://vision.stanford.edu/aditya86/ImageNetDogs"
DOGS_ARCHIVES = {  # name: md5
    "images.tar": "1bb1f2a596ae7057f99d7d75860002ef",
    "lists.tar": "edbb9f16854ec66506b5f09b583e0656",
}
CUB_URL = "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz"
CUB_MD5 = "97eceeb196236b17998738112f37df78"


@dataclass(frozen=True)
class Source:
    """A set in torchvision: its class and folder, which of its splits are which, and where to get it by hand.

    ``for_training`` are those of ``needed`` without which the test images can be read.
    """

    class_name: str
    folder: str
    needed: tuple[str, ...]
    by_hand: str
    train: str = "train"
    validation: str | None = None
    for_training: tuple[str, ...] = ()


SOURCES = {
    # J. Krause, M. Stark, J. Deng, L. Fei-Fei, "3D Object Representations for Fine-Grained Categorization", 3dRR 2013
    "stanford_cars": Source(
        "StanfordCars",
        "stanford_cars",
        ("cars_train", "cars_test", "devkit", "cars_test_annos_withlabels.mat"),
        "its publisher no longer serves it; https://github.com/pytorch/vision/issues/7545 says where copies are",
        for_training=("cars_train",),
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
        self.needed_for_test = [name for name in self.needed if name not in self.official.for_training]
        if official_validation and not self.official.validation:
            raise UserError(f"data.official_validation=true: {dataset} has no validation set of its own; give false")
        self.official_validation = official_validation

    def _fetch(self) -> None:
        for split in self._split_names:
            self._class(str(self.root), split=split, download=True)

    def load(self) -> Splits[Listing]:
        """Read the official lists of each split."""
        self.require_whole(self.needed)
        train, *validation = (self._open(split) for split in self._split_names[:-1])
        test = self.load_test()
        if validation and self.official_validation:
            return Splits(train, test, validation[0])
        return Splits(concatenated([train, *validation]), test)

    def load_test(self) -> Listing:
        """Read the official list of the test images; the others need not be there."""
        self.require_whole(self.needed_for_test)
        return self._open("test")

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


class StanfordDogs(DownloadedData[Listing], StreamedData):
    """Stanford Dogs: 12,000 training and 8,580 test photographs of 120 breeds, by the lists published with them.

    A. Khosla, N. Jayadevaprakash, B. Yao, L. Fei-Fei, "Novel Dataset for Fine-Grained Image Categorization", FGVC 2011.

    ``root/stanford_dogs`` holds ``Images/<wnid>-<breed>/*.jpg``, ``train_list.mat`` and ``test_list.mat``. The
    arguments are those of both bases.
    """

    title = "stanford_dogs"
    folder = "stanford_dogs"
    needed = ("Images", "train_list.mat", "test_list.mat")
    needed_for_test = ("Images", "test_list.mat")
    by_hand = f"unpack {DOGS_SITE}/images.tar and {DOGS_SITE}/lists.tar in {{folder}}"

    def _fetch(self) -> None:
        from torchvision.datasets.utils import download_and_extract_archive

        for name, md5 in DOGS_ARCHIVES.items():
            download_and_extract_archive(f"{DOGS_SITE}/{name}", str(self.base), md5=md5)

    def load(self) -> Splits[Listing]:
        """Read both lists."""
        self.require_whole(self.needed)
        test = self.load_test()
        return Splits(self._read("train_list.mat"), test)

    def load_test(self) -> Listing:
        """Read the list of the test images, whose folders name the breeds; the others need not be there."""
        self.require_whole(self.needed_for_test)
        test = self._read("test_list.mat")
        folders = {label: Path(path).parent.name for path, label in zip(test.paths, test.labels.tolist(), strict=True)}
        self.class_names = [folders[label].partition("-")[2] for label in sorted(folders)]
        return test

    def _read(self, name: str) -> Listing:
        from scipy.io import loadmat

        lists = loadmat(self.base / name, squeeze_me=True)
        paths = [str(self.base / "Images" / name) for name in lists["file_list"]]
        listing = Listing(paths, torch.from_numpy(lists["labels"].astype("int64")) - 1)
        return listing.require_files(f"data={self.title}")


class CUB200(DownloadedData[Listing], StreamedData):
    """Caltech-UCSD Birds 200-2011: 5,994 training and 5,794 test photographs of 200 species.

    C. Wah, S. Branson, P. Welinder, P. Perona, S. Belongie, "The Caltech-UCSD Birds-200-2011 Dataset", CNS-TR-2011-001.

    ``root/CUB_200_2011`` holds ``images`` and four lists, each line of which begins with a number. The arguments are
    those of both bases.
    """

    title = "cub200"
    folder = "CUB_200_2011"
    needed = ("images", "images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")
    needed_for_test = needed  # but of the images, those alone
    by_hand = f"unpack {CUB_URL} in {{root}}"

    def _fetch(self) -> None:
        from torchvision.datasets.utils import download_and_extract_archive

        download_and_extract_archive(CUB_URL, str(self.root), md5=CUB_MD5)

    def load(self) -> Splits[Listing]:
        """Read the lists."""
        test = self.load_test()
        return Splits(self._list("1"), test)

    def load_test(self) -> Listing:
        """Read the lists for the test images; the others need not be there."""
        self.require_whole(self.needed)
        self.class_names = [name.partition(".")[2] for name in self._read("classes.txt").values()]  # 001.Black_footed…
        return self._list("0")

    def _list(self, part: str) -> Listing:
        """List the images of a part of the official split: "1" trains, "0" tests."""
        paths, labels, parts = map(self._read, ("images.txt", "image_class_labels.txt", "train_test_split.txt"))
        chosen = [number for number in paths if parts[number] == part]
        listing = Listing(
            [str(self.base / "images" / paths[number]) for number in chosen],
            torch.tensor([int(labels[number]) - 1 for number in chosen]),
        )
        return listing.require_files(f"data={self.title}")

    def _read(self, name: str) -> dict[str, str]:
        """Read lines such as ``1 001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg``."""
        lines = (self.base / name).read_text().splitlines()
        return dict(line.split(maxsplit=1) for line in lines if line)
