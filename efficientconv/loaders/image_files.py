"""Lists of image files with their classes, as data sets make them of folders and loaders make batches of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from efficientconv.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


@dataclass(frozen=True)
class Listing:
    """Paths of image files and their classes (N,) int64."""

    paths: list[str]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, positions: Tensor) -> Listing:
        """Take the files at ``positions`` (M,) int64."""
        return Listing([self.paths[i] for i in positions.tolist()], self.labels[positions])

    def require_files(self, title: str) -> Listing:
        """Return itself.

        Raises:
            UserError: a list names files that are not there; ``title`` says whose list.
        """
        missing = [path for path in self.paths if not os.path.exists(path)]
        if missing:
            raise UserError(f"{title}: {len(missing)} of {len(self)} image files are not there, the first {missing[0]}")
        return self


def list_classes(folder: Path) -> tuple[list[str], Listing]:
    """List the images in ``folder/<class>/`` and below, class by class in alphabetical order.

    Returns:
        The names of the classes, and the files.

    Raises:
        UserError: there is no class, or a class has no image.
    """
    class_names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not class_names:
        raise UserError(f"{folder}: has no class folders; the images should be in {folder}/<class>/")
    paths: list[str] = []
    counts: list[int] = []
    for class_name in class_names:
        images = list(list_images(folder / class_name))
        if not images:
            raise UserError(f"{folder / class_name}: this class has no image ({', '.join(SUFFIXES)})")
        paths += images
        counts.append(len(images))
    return class_names, Listing(paths, torch.repeat_interleave(torch.tensor(counts)))


def list_images(folder: Path | str) -> Iterator[str]:
    """Yield the paths of the image files in ``folder`` and below, in order of their names."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from list_images(entry.path)
        elif entry.name.lower().endswith(SUFFIXES):
            yield entry.path


def find_splits(root: Path) -> dict[str, Path]:
    """Find the folders ``train``, and ``test`` or ``val`` or both, in ``root``.

    Returns:
        ``train``, ``test`` and, where both are there, ``validation``; a ``val`` alone is the test set.

    Raises:
        UserError: the root or one of them is not there.
    """
    expected = "train/<class>/*.jpg and test/<class>/*.jpg (or val), or any other image files"
    if not root.is_dir():
        raise UserError(
            f"data.root={root}: there is no such folder; it should hold {expected} (data=digits needs no download)"
        )
    train, val = root / "train", root / "val"
    if not train.is_dir():
        raise UserError(f"data.root={root}: has no folder train; it should hold {expected}")
    splits = {"train": train, "test": find_test(root)}
    return splits | {"validation": val} if splits["test"] != val and val.is_dir() else splits


def find_test(root: Path) -> Path:
    """Find the folder of the test images: ``test``, or else ``val``.

    Raises:
        UserError: neither is there.
    """
    for name in ("test", "val"):
        if (root / name).is_dir():
            return root / name
    raise UserError(
        f"data.root={root}: has neither a folder test nor val; it should hold test/<class>/*.jpg (or val), or any "
        "other image files"
    )


def list_splits(root: Path) -> tuple[list[str], dict[str, Listing]]:
    """List the images of every split that ``find_splits`` finds.

    Returns:
        The names of the classes, and the files of each split.

    Raises:
        UserError: as the other functions here; or there is one class, or the splits have different ones.
    """
    folders = find_splits(root)
    listed = {split: list_classes(folder) for split, folder in folders.items()}
    names, _ = listed["train"]
    if len(names) == 1:
        raise UserError(f"data.root={root}: train has one class, {names[0]}; at least two are needed to tell apart")
    for split, (others, _) in listed.items():
        differing = sorted(set(names) ^ set(others))
        if differing:
            raise UserError(
                f"data.root={root}: train has {len(names)} classes and {folders[split].name} has {len(others)}; "
                f"not in both: {', '.join(differing[:5])}"
            )
    return names, {split: listing for split, (_, listing) in listed.items()}
