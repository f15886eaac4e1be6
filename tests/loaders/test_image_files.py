from __future__ import annotations

from pathlib import Path

import pytest
import torch

from efficientconv.errors import UserError
from efficientconv.loaders.image_files import Listing, list_classes, list_images, list_splits


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_classes_are_the_folders_and_labels_their_places(tmp_path: Path) -> None:
    touch(tmp_path / "bee" / "1.jpg", tmp_path / "ant" / "2.JPEG", tmp_path / "bee" / "more" / "0.png")
    touch(tmp_path / "bee" / "notes.txt", tmp_path / "bee" / ".hidden.jpg", tmp_path / ".trash" / "1.jpg")
    names, listing = list_classes(tmp_path)
    assert names == ["ant", "bee"]
    assert [str(Path(path).relative_to(tmp_path)) for path in listing.paths] == [
        "ant/2.JPEG",
        "bee/1.jpg",
        "bee/more/0.png",
    ]
    assert listing.labels.tolist() == [0, 1, 1]
    assert listing.labels.dtype == torch.int64


def test_a_subset_keeps_paths_and_labels_together() -> None:
    part = Listing(["a", "b", "c"], torch.tensor([5, 6, 7])).subset(torch.tensor([2, 0]))
    assert (part.paths, part.labels.tolist(), len(part)) == (["c", "a"], [7, 5], 2)


def test_images_are_in_order_of_their_names(tmp_path: Path) -> None:
    touch(*(tmp_path / f"{i}.jpg" for i in (3, 1, 2)))
    assert [Path(path).name for path in list_images(tmp_path)] == ["1.jpg", "2.jpg", "3.jpg"]


def test_files_that_are_not_there(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg")
    listing = Listing([str(tmp_path / name) for name in ("a.jpg", "b.jpg", "c.jpg")], torch.zeros(3))
    with pytest.raises(UserError, match=r"birds: 2 of 3 image files are not there, the first .*/b.jpg"):
        listing.require_files("birds")
    assert listing.subset(torch.tensor([0])).require_files("birds").paths == [str(tmp_path / "a.jpg")]


def test_a_class_of_one_split_only_is_named(tmp_path: Path) -> None:
    touch(
        tmp_path / "train" / "ant" / "1.jpg", tmp_path / "train" / "bee" / "1.jpg", tmp_path / "val" / "ant" / "1.jpg"
    )
    with pytest.raises(UserError, match=r"train has 2 classes and test has 1; not in both: bee"):
        list_splits(tmp_path)
