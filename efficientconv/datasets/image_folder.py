"""Any folder of images sorted by class: small ones decoded once and then read from a cache, larger ones streamed.

The cache is one ``.npy`` file for each split: an array of uint8, read without pickle, so that no cache can run code.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from efficientconv.atomic import replaced_whole
from efficientconv.datasets.base import Splits
from efficientconv.datasets.in_memory import InMemoryData
from efficientconv.datasets.streamed import LOADERS, StreamedData
from efficientconv.errors import UserError, require_whole
from efficientconv.loaders.bad_images import BadImageError
from efficientconv.loaders.decode import decode_files
from efficientconv.loaders.image_files import Listing, find_test, list_classes, list_splits
from efficientconv.loaders.memory import LabeledImages
from efficientconv.transforms.crops import Crop

log = logging.getLogger(__name__)

SIZED_FILES = 1000  # of a split, whose sizes are part of a fingerprint
STREAM_FROM = 64  # pixels; smaller images are held in memory, larger ones read from disk while they are needed


class InMemoryFolder(InMemoryData):
    """Images in ``root/train/<class>/`` and ``root/test/<class>/`` or ``root/val/<class>/``, held in memory.

    The classes are the folders of ``train``, in alphabetical order; images may lie in folders below them. Where both
    ``val`` and ``test`` are there, ``val`` is the validation set.

    Args:
        root: folder that holds ``train``, and ``test`` or ``val`` or both.
        image_size: height and width in pixels; other images are scaled on their shorter side and cut in the middle.
        cache_dir: where the decoded images are kept if ``root`` cannot be written; otherwise it is ``root/.cache``.
        common: the arguments of ``InMemoryData``.

    Raises:
        UserError: from ``prepare_data`` and ``setup``: the folders are not as above, or there is a bad image too many.
    """

    title = "image_folder"

    def __init__(self, root: str, image_size: int = 32, cache_dir: str = "outputs/cache", **common: Any) -> None:
        super().__init__(**common)
        require_whole("data.image_size", image_size, least=1)
        self.root = Path(root).expanduser().absolute()
        self.image_size = image_size
        self.cache_dir = Path(cache_dir).expanduser()

    def prepare_data(self) -> None:
        """Decode what the cache does not hold yet; nothing more once the test images alone were asked for."""
        if self._test is None:
            for split, listing in self._listings[1].items():
                self._decoded(split, listing)

    def prepare_test(self) -> None:
        """Decode the test images where the cache does not hold them yet."""
        self._decoded("test", self._test_listing[1])

    def load(self) -> Splits[LabeledImages]:
        """Read all splits from the cache."""
        self.class_names, listings = self._listings
        return Splits(**{split: self._read(split, listing) for split, listing in listings.items()})

    def load_test(self) -> LabeledImages:
        """Read the test images from the cache; there need be no others."""
        self.class_names, listing = self._test_listing
        return self._read("test", listing)

    def fingerprint(self) -> str:
        """Return what tells these images from those of other folders."""
        return fingerprint_of(self._listings[1], self.root)

    def _read(self, split: str, listing: Listing) -> LabeledImages:
        images, bad = self._decoded(split, listing)
        kept = np.delete(np.arange(len(images)), bad)
        return LabeledImages(torch.from_numpy(images[kept]), listing.labels[kept])

    @cached_property
    def _listings(self) -> tuple[list[str], dict[str, Listing]]:
        return list_splits(self.root)

    @cached_property
    def _test_listing(self) -> tuple[list[str], Listing]:
        return list_classes(find_test(self.root))

    def _decoded(self, split: str, listing: Listing) -> tuple[np.ndarray, np.ndarray]:
        """Map the split's images (N, 3, H, W) uint8 and the positions of bad ones from the cache.

        What the cache lacks is decoded and put there first; positions only where there are any.
        """
        prefix = f"{split}-{self.image_size}px-"
        name = f"{prefix}{stamp(listing, self.root)}"
        shape = (len(listing), 3, self.image_size, self.image_size)
        for folder in self._cache_folders:
            cached = map_array(folder / f"{name}.npy")
            if cached is not None and cached.shape == shape:
                return cached, self._read_bad(folder / f"{name}.bad.npy", listing)
        folder = self._writable_cache_folder()
        images, bad = decode_files(listing.paths, self.image_size, f"Decoding {split}", self.bad_files)
        for other in folder.glob(f"{prefix}*.npy"):
            other.unlink(missing_ok=True)  # of files that have changed since
        positions = np.array(bad, dtype=np.int64)
        if bad:
            write_array(folder / f"{name}.bad.npy", positions)
        write_array(folder / f"{name}.npy", images)
        return images, positions

    def _read_bad(self, path: Path, listing: Listing) -> np.ndarray:
        positions = map_array(path) if path.exists() else np.array([], dtype=np.int64)
        assert positions is not None
        for i in positions.tolist():
            self.bad_files.add(BadImageError(listing.paths[i], "as found when it was decoded"))
        return positions

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


class StreamedFolder(StreamedData):
    """The same folders, read from disk while they are needed.

    Args:
        root: folder that holds ``train``, and ``test`` or ``val`` or both.
        common: the arguments of ``StreamedData``.

    Raises:
        UserError: from ``setup``: the folders are not as they should be.
    """

    title = "image_folder"

    def __init__(self, root: str, **common: Any) -> None:
        super().__init__(**common)
        self.root = Path(root).expanduser().absolute()

    def load(self) -> Splits[Listing]:
        """List the files."""
        self.class_names, listings = self._listings
        self._advise_on_size(listings["train"].paths[0])
        return Splits(**listings)

    def load_test(self) -> Listing:
        """List the test images; there need be no others."""
        self.class_names, listing = list_classes(find_test(self.root))
        return listing

    def fingerprint(self) -> str:
        """Return what tells these images from those of other folders."""
        return fingerprint_of(self._listings[1], self.root)

    @cached_property
    def _listings(self) -> tuple[list[str], dict[str, Listing]]:
        return list_splits(self.root)

    def _advise_on_size(self, first: str) -> None:
        """Say where small images are about to be enlarged."""
        try:
            with Image.open(first) as image:
                largest = max(image.size)
        except (OSError, ValueError):
            return  # a bad image; the loader counts it
        if largest < STREAM_FROM <= self.input_size[1]:
            log.warning(
                "data.image_size=%d, but %s has %d pixels: data.image_size=%d shows such images as they are",
                self.input_size[1],
                first,
                largest,
                largest,
            )


def open_image_folder(
    root: str,
    image_size: int = 224,
    loader: str = "auto",
    *,
    cache_dir: str = "outputs/cache",
    crop_padding: int = 4,
    train_crop: Callable[[int], Crop] | Crop | None = None,
    eval_crop: Callable[[int], Crop] | Crop | None = None,
    color_jitter: Mapping[str, float] | None = None,
    workers: int | None = None,
    **common: Any,
) -> InMemoryFolder | StreamedFolder:
    """Open a folder of images: small ones in memory, those of at least 64 pixels from disk.

    Args:
        root: folder that holds ``train``, and ``test`` or ``val`` or both.
        image_size: height and width in pixels.
        loader: ``memory``, ``dali``, ``torch``, or ``auto``, which goes by ``image_size``.
        cache_dir: in memory only, as are the padding of the crop.
        crop_padding: see ``InMemoryData``.
        train_crop: from disk only, as are the next three; see ``StreamedData``.
        eval_crop: see there.
        color_jitter: see there.
        workers: see there.
        common: the arguments of ``ImageData``.

    Raises:
        UserError: a value that cannot be.
    """
    require_whole("data.image_size", image_size, least=1)
    if loader not in ("memory", *LOADERS):
        raise UserError(f"data.loader={loader}: must be one of memory, {', '.join(LOADERS)}")
    if loader == "memory" or (loader == "auto" and image_size < STREAM_FROM):
        return InMemoryFolder(root, image_size, cache_dir, crop_padding=crop_padding, **common)
    return StreamedFolder(
        root,
        image_size=image_size,
        loader=loader,
        train_crop=train_crop,
        eval_crop=eval_crop,
        color_jitter=color_jitter,
        workers=workers,
        **common,
    )


def fingerprint_of(listings: Mapping[str, Listing], root: Path) -> str:
    """Return what changes when a file below ``root`` comes, goes or gets another name, and most often with its size.

    It does not depend on where ``root`` is or when files were copied. Sizes are asked of a thousand files at even
    distances: over a network, a million would take minutes.
    """
    digest = hashlib.sha256()
    for split, listing in sorted(listings.items()):
        every = -(-len(listing) // SIZED_FILES)
        for i, path in enumerate(listing.paths):
            size = os.stat(path).st_size if i % every == 0 else ""
            digest.update(f"{split}\0{path.removeprefix(str(root))}\0{size}\n".encode())
    return digest.hexdigest()[:16]


def stamp(listing: Listing, root: Path) -> str:
    """Return what changes when a file comes, goes, or changes its name below ``root``, its size or its time."""
    digest = hashlib.sha256()
    for path in listing.paths:
        status = os.stat(path)
        digest.update(f"{path.removeprefix(str(root))}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


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
    try:
        with replaced_whole(path) as temporary, open(temporary, "wb") as file:
            np.save(file, array, allow_pickle=False)
    except OSError as error:
        raise UserError(f"{path}: could not be written ({error.strerror})") from error
