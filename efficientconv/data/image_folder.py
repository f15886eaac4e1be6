"""Any folder of images sorted by class, decoded once and then read from a cache.

The cache is one ``.npy`` file a split: an array of uint8 and nothing else, read without pickle, so that reading it
cannot execute anything.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from efficientconv.data.base import ImageData, Splits
from efficientconv.data.decode import decode_files
from efficientconv.data.memory import LabeledImages
from efficientconv.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


@dataclass(frozen=True)
class Listing:
    """The image files of one split, class by class, each in order of its name.

    ``stamp`` changes when a file comes, goes, or changes its name, size or time.
    """

    folder: Path
    class_names: list[str]
    paths: list[str]
    labels: list[int]
    stamp: str


class ImageFolder(ImageData):
    """Images in ``root/train/<class>/`` and ``root/test/<class>/`` or ``root/val/<class>/``, held in memory.

    The classes are the folders of ``train``, in alphabetical order; images may lie in folders below them. Where both
    ``val`` and ``test`` are there, ``val`` is the validation set.

    Args:
        root: folder that holds ``train``, and ``test`` or ``val`` or both.
        image_size: height and width in pixels; other images are scaled on their shorter side and cut in the middle.
        cache_dir: where the decoded images are kept if ``root`` cannot be written; otherwise it is ``root/.cache``.
        common: the arguments of ``ImageData``.

    Raises:
        UserError: from ``prepare_data`` and ``setup``: the folders are not as above, or an image is damaged.
    """

    title = "image_folder"

    def __init__(self, root: str, image_size: int = 32, cache_dir: str = "outputs/cache", **common: Any) -> None:
        super().__init__(**common)
        if not isinstance(image_size, int) or image_size < 1:
            raise UserError(f"data.image_size={image_size}: must be a whole number of at least 1, in pixels")
        self.root = Path(root).expanduser().absolute()
        self.image_size = image_size
        self.cache_dir = Path(cache_dir).expanduser()

    def prepare_data(self) -> None:
        """Decode what the cache does not hold yet."""
        for listing in self._listings.values():
            self._decoded(listing)

    def load(self) -> Splits:
        """Read all splits from the cache."""
        self.class_names = self._listings["train"].class_names
        return Splits(**{split: self._read(listing) for split, listing in self._listings.items()})

    def _read(self, listing: Listing) -> LabeledImages:
        return LabeledImages(torch.from_numpy(np.array(self._decoded(listing))), torch.tensor(listing.labels))

    @cached_property
    def _listings(self) -> dict[str, Listing]:
        listings = {split: list_images(folder) for split, folder in self._find_splits().items()}
        train = listings["train"]
        for listing in listings.values():
            differing = sorted(set(train.class_names) ^ set(listing.class_names))
            if differing:
                raise UserError(
                    f"data.root={self.root}: train has {len(train.class_names)} classes and {listing.folder.name} has "
                    f"{len(listing.class_names)}; not in both: {', '.join(differing[:5])}"
                )
        return listings

    def _find_splits(self) -> dict[str, Path]:
        expected = "train/<class>/*.jpg and test/<class>/*.jpg (or val), or any other image files"
        if not self.root.is_dir():
            raise UserError(
                f"data.root={self.root}: there is no such folder; it should hold {expected} "
                "(data=digits needs no download)"
            )
        train, test, val = (self.root / name for name in ("train", "test", "val"))
        if not train.is_dir():
            raise UserError(f"data.root={self.root}: has no folder train; it should hold {expected}")
        if test.is_dir() and val.is_dir():
            return {"train": train, "test": test, "validation": val}
        if test.is_dir() or val.is_dir():
            return {"train": train, "test": test if test.is_dir() else val}
        raise UserError(f"data.root={self.root}: has neither a folder test nor val; it should hold {expected}")

    def _decoded(self, listing: Listing) -> np.ndarray:
        """Map the split's images (N, 3, H, W) uint8 from the cache, where they are put first if need be."""
        prefix = f"{listing.folder.name}-{self.image_size}px-"
        name = f"{prefix}{listing.stamp}.npy"
        shape = (len(listing.paths), 3, self.image_size, self.image_size)
        for folder in self._cache_folders:
            cached = map_array(folder / name)
            if cached is not None and cached.shape == shape:
                return cached
        folder = self._writable_cache_folder()
        images = decode_files(listing.paths, self.image_size, f"Decoding {listing.folder.name}")
        write_array(folder / name, images)
        for other in folder.glob(f"{prefix}*.npy"):
            if other.name != name:
                other.unlink(missing_ok=True)  # of files that have changed since
        return images

    @property
    def _cache_folders(self) -> tuple[Path, Path]:
        digest = hashlib.sha256(str(self.root).encode()).hexdigest()[:8]
        return self.root / ".cache", self.cache_dir / f"{self.root.name}-{digest}"

    def _writable_cache_folder(self) -> Path:
        refusals = []
        for folder in self._cache_folders:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=folder):
                    return folder
            except OSError as error:
                refusals.append(f"{folder} ({error.strerror})")
        raise UserError(
            f"the decoded images can be kept neither in {' nor in '.join(refusals)}: "
            "give a folder that can be written with data.cache_dir=…"
        )


def list_images(folder: Path) -> Listing:
    """List the image files in ``folder/<class>/``.

    Raises:
        UserError: there is no class, or a class has no image.
    """
    class_names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not class_names:
        raise UserError(f"{folder}: has no class folders; the images should be in {folder}/<class>/")
    paths: list[str] = []
    labels: list[int] = []
    stamp = hashlib.sha256()
    for label, class_name in enumerate(class_names):
        entries = list(_image_files(folder / class_name))
        if not entries:
            raise UserError(f"{folder / class_name}: this class has no image ({', '.join(SUFFIXES)})")
        for entry in entries:
            status = entry.stat()
            name = entry.path.removeprefix(str(folder))
            stamp.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
            paths.append(entry.path)
            labels.append(label)
    return Listing(folder, class_names, paths, labels, stamp.hexdigest()[:16])


def _image_files(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _image_files(entry.path)
        elif entry.name.lower().endswith(SUFFIXES):
            yield entry


def map_array(path: Path) -> np.ndarray | None:
    """Map a ``.npy`` file without reading it; None where there is none, or none that is whole."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a ``.npy`` file that appears whole or not at all.

    Raises:
        UserError: it cannot be written, for example because the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            np.save(file, array, allow_pickle=False)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path}: could not be written ({error.strerror})") from error
    finally:
        temporary.unlink(missing_ok=True)
