"""MNIST, the handwritten digits, in the original files, by torchvision's download, checksums and folder layout.

Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-Based Learning Applied to Document Recognition", Proceedings of
the IEEE 86(11), 1998.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision import datasets
from torchvision.datasets.utils import download_and_extract_archive

from efficientconv.datasets.base import Splits
from efficientconv.datasets.downloaded import DownloadedData
from efficientconv.datasets.in_memory import InMemoryData, in_channels, require_channels
from efficientconv.errors import UserError
from efficientconv.loaders.memory import LabeledImages
from efficientconv.transforms.batch import Normalization

SIZE = 28  # pixels
TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
MEAN, STD = 0.1307, 0.3081  # of all pixels of the training images, as commonly published


class MNIST(DownloadedData[LabeledImages], InMemoryData):
    """60,000 training and 10,000 test images of 28×28 grey pixels.

    There is no ``flip``: a mirrored digit is not a digit.

    Args:
        channels: 1, the grey image as it is, or 3, three equal channels, for networks that take colours.
        common: the arguments of both bases but for ``flip``.

    Raises:
        UserError: another number of channels; from ``prepare_data`` and ``setup``: files missing or damaged.
    """

    title = "mnist"
    folder = "MNIST/raw"
    needed = (*TRAIN, *TEST)
    needed_for_test = TEST
    by_hand = (
        f"mkdir -p {{folder}} && for name in {' '.join(needed)}; "
        f"do curl -L {datasets.MNIST.mirrors[0]}$name.gz | gunzip > {{folder}}/$name; done"
    )

    def __init__(self, channels: int = 1, **common: Any) -> None:
        super().__init__(**common, flip=False)
        require_channels(channels)
        self.channels = channels
        self.published_normalization = Normalization((MEAN,) * channels, (STD,) * channels)

    def load(self) -> Splits[LabeledImages]:
        """Read the four files."""
        self.require_whole(self.needed)
        test = self.load_test()
        return Splits(self._read(TRAIN), test)

    def load_test(self) -> LabeledImages:
        """Read the two files of the test images; the others need not be there."""
        self.require_whole(self.needed_for_test)
        self.class_names = [str(digit) for digit in range(10)]
        return self._read(TEST)

    def _read(self, names: tuple[str, str]) -> LabeledImages:
        images, labels = read_idx(self.base / names[0], SIZE, SIZE), read_idx(self.base / names[1])
        if labels.max() >= self.num_classes:
            raise UserError(f"{self.base / names[1]}: has a label {labels.max()}; MNIST's are 0 to 9")
        return LabeledImages(in_channels(images, self.channels), labels.long())

    def _is_whole(self, name: str) -> bool:
        """Say whether the file holds as many images or labels as it says, and as the other of its pair, if whole."""
        images, labels = TRAIN if name in TRAIN else TEST
        counts = {images: _count(self.base / images, SIZE, SIZE), labels: _count(self.base / labels)}
        return counts[name] > 0 and (0 in counts.values() or counts[images] == counts[labels])

    def _fetch(self) -> None:
        """Download what is not whole; torchvision would take any file for whole that is there."""
        for archive, md5 in datasets.MNIST.resources:
            if not self._is_whole(archive.removesuffix(".gz")):
                _fetch_from_any_mirror(archive, md5, self.base)


def read_idx(file: Path, *size: int) -> Tensor:
    """Read a file of unsigned bytes in the IDX format: (N, *size) uint8.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not whole, not of that size, or empty.
    """
    count = idx_count(file, *size)
    content = bytearray(file.read_bytes())
    return torch.frombuffer(content, dtype=torch.uint8, offset=_head_bytes(size)).view(count, *size)


def idx_count(file: Path, *size: int) -> int:
    """Return the N of such a file by its head and its length.

    The head is a magic number, which tells the type and the number of dimensions, and N and ``size``, each of four
    bytes, the highest first.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not whole, not of that size, or empty.
    """
    with file.open("rb") as content:
        head = content.read(_head_bytes(size))
    count = int.from_bytes(head[4:8], "big")
    expected = struct.pack(f">4B{1 + len(size)}I", 0, 0, 8, 1 + len(size), count, *size)
    if not count or head != expected or file.stat().st_size != len(head) + count * math.prod(size):
        raise ValueError(f"{file}: no whole IDX file of N{''.join(f'×{length}' for length in size)} unsigned bytes")
    return count


def _head_bytes(size: tuple[int, ...]) -> int:
    return 4 * (2 + len(size))


def _count(file: Path, *size: int) -> int:
    """Return how many images or labels there are, 0 where the file is not there or not whole."""
    try:
        return idx_count(file, *size)
    except (FileNotFoundError, ValueError):
        return 0


def _fetch_from_any_mirror(archive: str, md5: str, folder: Path) -> None:
    reasons = []
    for mirror in datasets.MNIST.mirrors:
        try:
            return download_and_extract_archive(f"{mirror}{archive}", str(folder), filename=archive, md5=md5)
        except (OSError, RuntimeError) as error:
            reasons.append(f"{mirror}{archive}: {error}")
    raise RuntimeError("; ".join(reasons))
