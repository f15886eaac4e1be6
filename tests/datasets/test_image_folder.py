from __future__ import annotations

import errno
import os
import pickle
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from efficientconv.datasets import image_folder, open_image_folder
from efficientconv.datasets.image_folder import InMemoryFolder, StreamedFolder, map_array, write_array
from efficientconv.errors import UserError
from efficientconv.loaders.image_files import Listing

CLASSES = {"ant": 10, "bee": 20}


def write_images(folder: Path, count: int, first: int, suffix: str = ".png") -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new("RGB", (8, 8), (first + i,) * 3).save(folder / f"{i}{suffix}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """``root/{train,test}/{ant,bee}``, grey: ants from level 10, bees from 20, both 100 brighter in the test set."""
    for name, first in CLASSES.items():
        write_images(tmp_path / "root" / "train" / name, 4, first)
        write_images(tmp_path / "root" / "test" / name, 2, first + 100)
    return tmp_path / "root"


def make(root: Path, **options) -> InMemoryFolder | StreamedFolder:
    common = {"batch_size": 4, "normalize": False, "crop_padding": 0, "flip": False, "image_size": 8}
    return open_image_folder(str(root), cache_dir=str(root.parent / "outputs"), **{**common, **options})


def ready(root: Path, **options) -> InMemoryFolder | StreamedFolder:
    data = make(root, **options)
    data.prepare_data()
    data.setup("fit")
    return data


def levels(loader) -> dict[int, list[int]]:
    """The grey levels of each class in an epoch, sorted."""
    images, labels = (torch.cat(parts) for parts in zip(*loader, strict=True))
    values = (images[:, 0, 0, 0] * 255).round().int()
    return {int(label): sorted(values[labels == label].tolist()) for label in labels.unique()}


def cached(root: Path) -> list[str]:
    return sorted(path.name.rsplit("-", 1)[0] for path in (root / ".cache").iterdir())


def no_decoding(*args, **kwargs) -> None:
    raise AssertionError("decoded again")


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_classes_are_the_folders_and_images_their_files(root: Path, held_out: str) -> None:
    (root / "test").rename(root / held_out)
    data = ready(root)
    assert (data.class_names, data.num_classes, data.input_size) == (["ant", "bee"], 2, (3, 8, 8))
    assert data.evaluated_on == "test"
    assert levels(data.train_dataloader()) == {0: [10, 11, 12, 13], 1: [20, 21, 22, 23]}
    assert levels(data.val_dataloader()) == levels(data.test_dataloader()) == {0: [110, 111], 1: [120, 121]}


def test_val_beside_test_is_the_validation_set(root: Path) -> None:
    for name, first in CLASSES.items():
        write_images(root / "val" / name, 1, first + 200)
    data = ready(root)
    assert data.evaluated_on == "validation"
    assert levels(data.val_dataloader()) == {0: [210], 1: [220]}
    assert levels(data.test_dataloader()) == {0: [110, 111], 1: [120, 121]}


def test_folders_below_a_class_belong_to_it_and_other_files_do_not_count(root: Path) -> None:
    write_images(root / "train" / "ant" / "more", 1, 50, ".JPEG")
    (root / "train" / "ant" / "notes.txt").write_text("ants")
    (root / "train" / "ant" / ".hidden.png").write_text("not an image")
    (root / "train" / ".thumbnails").mkdir()
    assert levels(ready(root, batch_size=3).train_dataloader()) == {0: [10, 11, 12, 13, 50], 1: [20, 21, 22, 23]}


def test_the_second_start_reads_the_cache(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = levels(ready(root).train_dataloader())
    monkeypatch.setattr(image_folder, "decode_files", no_decoding)
    assert levels(ready(root).train_dataloader()) == first
    assert cached(root) == ["test-8px", "train-8px"]


def touch(root: Path) -> None:
    os.utime(root / "train" / "ant" / "0.png", ns=(1, 1))


def rename(root: Path) -> None:
    (root / "train" / "ant" / "0.png").rename(root / "train" / "ant" / "new.png")


def remove(root: Path) -> None:
    (root / "train" / "ant" / "0.png").unlink()


def grow(root: Path) -> None:
    path = root / "train" / "ant" / "0.png"
    before = path.stat()
    path.write_bytes(path.read_bytes() + b"x")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [touch, rename, remove, grow])
def test_the_cache_is_rebuilt_when_files_change_and_the_old_one_goes(
    root: Path, monkeypatch: pytest.MonkeyPatch, change
) -> None:
    ready(root)
    before = set((root / ".cache").iterdir())
    change(root)
    with monkeypatch.context() as patched:
        patched.setattr(image_folder, "decode_files", no_decoding)
        with pytest.raises(AssertionError, match="decoded again"):
            ready(root)
    ready(root)
    assert cached(root) == ["test-8px", "train-8px"]
    assert len(before & set((root / ".cache").iterdir())) == 1  # the test set's


def test_caches_of_other_sizes_stay(root: Path) -> None:
    ready(root)
    ready(root, image_size=4)
    assert cached(root) == ["test-4px", "test-8px", "train-4px", "train-8px"]


def test_a_cache_cut_short_is_made_again(root: Path) -> None:
    expected = levels(ready(root).train_dataloader())
    for path in (root / ".cache").iterdir():
        path.write_bytes(path.read_bytes()[:-10])
    assert levels(ready(root).train_dataloader()) == expected


class Executed:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("executed",)


def test_reading_a_cache_executes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.npy").write_bytes(pickle.dumps(Executed()))
    np.save(tmp_path / "array.npy", np.array([Executed()], dtype=object), allow_pickle=True)
    assert map_array(tmp_path / "plain.npy") is None
    assert map_array(tmp_path / "array.npy") is None
    assert not (tmp_path / "executed").exists()


def test_a_cache_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file, array, **options) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(UserError, match=r"a.npy: could not be written \(No space left on device\)"):
        write_array(tmp_path / "a.npy", np.zeros(3))
    assert list(tmp_path.iterdir()) == []


def test_where_the_data_cannot_be_written_the_cache_is_under_the_outputs(root: Path) -> None:
    (root / ".cache").write_text("in the way")  # stands for a read-only file system, which a test cannot make
    expected = ready(root)
    assert len(list((root.parent / "outputs").glob("root-*/*.npy"))) == 2
    assert levels(ready(root).train_dataloader()) == levels(expected.train_dataloader())


def test_where_nothing_can_be_written_both_places_are_named(root: Path) -> None:
    (root / ".cache").write_text("in the way")
    (root.parent / "outputs").write_text("in the way")
    message = (
        r"kept neither in .*root/.cache \(File exists\) nor in .*outputs/root-.*\(.*\): give .* with data.cache_dir="
    )
    with pytest.raises(UserError, match=message):
        ready(root)


def test_a_root_that_is_not_there(tmp_path: Path) -> None:
    message = (
        r"data.root=.*/nowhere: there is no such folder; it should hold train/<class>/.*data=digits needs no download"
    )
    with pytest.raises(UserError, match=message):
        ready(tmp_path / "nowhere")


def test_no_training_folder(root: Path) -> None:
    (root / "train").rename(root / "training")
    with pytest.raises(UserError, match=r"data.root=.*/root: has no folder train; it should hold train/<class>/\*.jpg"):
        ready(root)


def test_neither_test_nor_validation_folder(root: Path) -> None:
    (root / "test").rename(root / "testing")
    with pytest.raises(UserError, match=r"data.root=.*/root: has neither a folder test nor val"):
        ready(root)


def test_no_class_folders(root: Path) -> None:
    (root / "train").rename(root / "old")
    (root / "train").mkdir()
    with pytest.raises(UserError, match=r"/train: has no class folders; the images should be in .*/train/<class>/"):
        ready(root)


def test_a_class_without_images(root: Path) -> None:
    (root / "train" / "wasp").mkdir()
    with pytest.raises(UserError, match=r"/train/wasp: this class has no image \(.jpg, .jpeg, .png"):
        ready(root)


def test_classes_that_differ(root: Path) -> None:
    (root / "test" / "bee").rename(root / "test" / "wasp")
    with pytest.raises(UserError, match=r"train has 2 classes and test has 2; not in both: bee, wasp"):
        ready(root)


def test_a_class_that_only_val_has(root: Path) -> None:
    (root / "test").rename(root / "val")
    shutil.copytree(root / "val" / "bee", root / "val" / "wasp")
    with pytest.raises(UserError, match=r"train has 2 classes and val has 3; not in both: wasp"):
        ready(root)


def test_a_single_class_teaches_nothing(root: Path) -> None:
    for part in ("train", "test"):
        shutil.rmtree(root / part / "bee")
    with pytest.raises(UserError, match=r"^data.root=.*: train has one class, ant; at least two are needed"):
        ready(root)


def test_small_images_about_to_be_enlarged_are_noticed(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    ready(root, image_size=64, loader="torch")
    ready(root, image_size=16, loader="torch")
    assert len(caplog.messages) == 1
    assert re.fullmatch(
        r"data.image_size=64, but .*/train/ant/0.png has 8 pixels: data.image_size=8 shows such images as they are",
        caplog.messages[0],
    )


def test_a_bad_image_is_named_and_leaves_no_cache(root: Path) -> None:
    path = root / "train" / "bee" / "2.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match=r"train/bee/2.png: not an image, or a damaged one"):
        ready(root)
    assert cached(root) == []


def test_a_batch_larger_than_the_data_set(root: Path) -> None:
    with pytest.raises(UserError, match=r"data.batch_size=9 is more than the 8 training images"):
        ready(root, batch_size=9)


@pytest.mark.parametrize("size", [0, 2.5])
def test_impossible_image_sizes(root: Path, size: float) -> None:
    with pytest.raises(UserError, match=f"data.image_size={size}: must be a whole number of at least 1"):
        make(root, image_size=size)


def test_bad_images_are_left_out_and_counted_from_the_cache_too(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = root / "train" / "bee" / "2.png"
    path.write_bytes(path.read_bytes()[:40])
    for _ in range(2):
        data = ready(root, max_bad_images=1)
        assert levels(data.train_dataloader()) == {0: [10, 11, 12, 13], 1: [20, 21, 23]}
        assert data.bad_images == 1
        monkeypatch.setattr(image_folder, "decode_files", no_decoding)
    with pytest.raises(UserError, match=r"train/bee/2.png: not an image, or a damaged one \(as found when it was dec"):
        ready(root)


@pytest.mark.parametrize(
    ("image_size", "loader", "kind"),
    [
        (32, "auto", InMemoryFolder),
        (63, "auto", InMemoryFolder),
        (64, "auto", StreamedFolder),
        (224, "memory", InMemoryFolder),
        (32, "torch", StreamedFolder),
    ],
)
def test_small_images_are_held_in_memory_and_large_ones_streamed(
    root: Path, image_size: int, loader: str, kind: type
) -> None:
    assert type(make(root, image_size=image_size, loader=loader)) is kind


@pytest.mark.parametrize("loader", ["torch", "dali"])
def test_streamed_images_are_those_of_the_folders(root: Path, loader: str) -> None:
    data = ready(root, loader=loader, workers=0, batch_size=3)
    assert (data.class_names, data.num_classes, data.input_size) == (["ant", "bee"], 2, (3, 8, 8))
    assert data.evaluated_on == "test"
    assert levels(data.train_dataloader()) == {0: [10, 11, 12, 13], 1: [20, 21, 22, 23]}
    assert levels(data.val_dataloader()) == levels(data.test_dataloader()) == {0: [110, 111], 1: [120, 121]}
    assert not (root / ".cache").exists()


def test_other_loaders_are_refused(root: Path) -> None:
    with pytest.raises(UserError, match=r"data.loader=disk: must be one of memory, auto, dali, torch"):
        make(root, loader="disk")


@pytest.mark.parametrize("loader", ["memory", "torch"])
def test_the_test_images_need_no_training_images_beside_them(root: Path, loader: str) -> None:
    shutil.rmtree(root / "train")
    data = make(root, loader=loader, normalize={"mean": [0.5] * 3, "std": [0.5] * 3})
    data.prepare_test()
    data.setup("test")
    data.prepare_data()  # as Lightning does, which does not know
    assert (data.class_names, data.input_size) == (["ant", "bee"], (3, 8, 8))
    assert len(torch.cat([labels for _, labels in data.test_dataloader()])) == 4
    with pytest.raises(UserError, match="has no folder train"):
        data.setup("fit")


@pytest.mark.parametrize("loader", ["memory", "torch"])
def test_a_fingerprint_is_of_the_images_not_of_their_place(root: Path, tmp_path: Path, loader: str) -> None:
    def fingerprint(folder: Path) -> str:
        return make(folder, loader=loader).fingerprint()

    first, copy = fingerprint(root), tmp_path / "copy"
    shutil.copytree(root, copy, copy_function=shutil.copyfile)
    assert fingerprint(copy) == first
    image = copy / "train" / "ant" / "0.png"
    content = image.read_bytes()
    image.write_bytes(content + b"longer")
    assert fingerprint(copy) != first
    image.write_bytes(content)
    image.rename(image.with_name("00.png"))
    assert fingerprint(copy) != first


def test_a_fingerprint_asks_for_the_sizes_of_a_thousand_files_at_most(tmp_path: Path, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(os, "stat", lambda path: asked.append(path) or SimpleNamespace(st_size=1))
    listing = Listing([f"{tmp_path}/{i}.png" for i in range(2500)], torch.zeros(2500, dtype=torch.int64))
    image_folder.fingerprint_of({"train": listing}, tmp_path)
    assert len(asked) == 834  # every third
