"""Stanford Dogs, by the lists that its authors publish with it.

A. Khosla, N. Jayadevaprakash, B. Yao and L. Fei-Fei, "Novel Dataset for Fine-Grained Image Categorization", FGVC 2011.
"""

from __future__ import annotations

from pathlib import Path

import torch

from efficientconv.datasets.base import Splits
from efficientconv.datasets.downloaded import DownloadedData
from efficientconv.datasets.streamed import StreamedData
from efficientconv.loaders.image_files import Listing

SITE = "http://vision.stanford.edu/aditya86/ImageNetDogs"
ARCHIVES = {  # name: md5
    "images.tar": "1bb1f2a596ae7057f99d7d75860002ef",
    "lists.tar": "edbb9f16854ec66506b5f09b583e0656",
}


class StanfordDogs(DownloadedData[Listing], StreamedData):
    """12,000 training and 8,580 test photographs of 120 breeds.

    ``root/stanford_dogs`` holds ``Images/<wnid>-<breed>/*.jpg``, ``train_list.mat`` and ``test_list.mat``. The
    arguments are those of both bases.
    """

    title = "stanford_dogs"
    folder = "stanford_dogs"
    needed = ("Images", "train_list.mat", "test_list.mat")
    by_hand = f"unpack {SITE}/images.tar and {SITE}/lists.tar in {{folder}}"

    def _fetch(self) -> None:
        from torchvision.datasets.utils import download_and_extract_archive

        for name, md5 in ARCHIVES.items():
            download_and_extract_archive(f"{SITE}/{name}", str(self.base), md5=md5)

    def load(self) -> Splits[Listing]:
        """Read both lists; the breeds are named by the folders of the training images."""
        self.require_whole_set()
        train, test = (self._read(self.base / f"{part}_list.mat") for part in ("train", "test"))
        folders = {
            label: Path(path).parent.name for path, label in zip(train.paths, train.labels.tolist(), strict=True)
        }
        self.class_names = [folders[label].partition("-")[2] for label in sorted(folders)]
        return Splits(train, test)

    def _read(self, path: Path) -> Listing:
        from scipy.io import loadmat

        lists = loadmat(path, squeeze_me=True)
        paths = [str(self.base / "Images" / name) for name in lists["file_list"]]
        listing = Listing(paths, torch.from_numpy(lists["labels"].astype("int64")) - 1)
        return listing.require_files(f"data={self.title}")
