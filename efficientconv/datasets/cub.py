"""Caltech-UCSD Birds 200-2011.

C. Wah, S. Branson, P. Welinder, P. Perona and S. Belongie, "The Caltech-UCSD Birds-200-2011 Dataset", CNS-TR-2011-001.
"""

from __future__ import annotations

import torch

from efficientconv.datasets.base import Splits
from efficientconv.datasets.downloaded import DownloadedData
from efficientconv.datasets.streamed import StreamedData
from efficientconv.loaders.image_files import Listing

URL = "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz"
MD5 = "97eceeb196236b17998738112f37df78"


class CUB200(DownloadedData[Listing], StreamedData):
    """5,994 training and 5,794 test photographs of 200 species of birds.

    ``root/CUB_200_2011`` holds ``images`` and four lists, each line of which begins with a number. The arguments are
    those of both bases.
    """

    title = "cub200"
    folder = "CUB_200_2011"
    needed = ("images", "images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")
    by_hand = f"unpack {URL} in {{root}}"

    def _fetch(self) -> None:
        from torchvision.datasets.utils import download_and_extract_archive

        download_and_extract_archive(URL, str(self.root), md5=MD5)

    def load(self) -> Splits[Listing]:
        """Read the lists."""
        self.require_whole_set()
        self.class_names = [name.partition(".")[2] for name in self._read("classes.txt").values()]  # 001.Black_footed…
        paths, labels, training = map(self._read, ("images.txt", "image_class_labels.txt", "train_test_split.txt"))
        everything = Listing(
            [str(self.base / "images" / path) for path in paths.values()],
            torch.tensor([int(labels[number]) - 1 for number in paths]),
        )
        everything.require_files(f"data={self.title}")
        chosen = torch.tensor([training[number] == "1" for number in paths])
        return Splits(*(everything.subset(part.nonzero().flatten()) for part in (chosen, ~chosen)))

    def _read(self, name: str) -> dict[str, str]:
        """Read lines such as ``1 001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg``."""
        lines = (self.base / name).read_text().splitlines()
        return dict(line.split(maxsplit=1) for line in lines if line)
