from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat
from timm.data import ImageNetInfo

from efficientconv.datasets import ImageNet
from efficientconv.errors import UserError

WNIDS = ImageNetInfo().label_names()
FLAT = {1: "n02119789", 2: "n01440764", 3: "n15075141"}  # validation image: class


@pytest.fixture(scope="session")
def train(tmp_path_factory: pytest.TempPathFactory, photographs: list[str]) -> Path:
    """The 1,000 official folders, one photograph in each."""
    folder = tmp_path_factory.mktemp("imagenet") / "train"
    for wnid in WNIDS:
        (folder / wnid).mkdir(parents=True)
        os.link(photographs[0], folder / wnid / f"{wnid}_1.JPEG")
    return folder


@pytest.fixture
def root(tmp_path: Path, train: Path, photographs: list[str]) -> Path:
    """``train``, and three validation images in a flat ``val``."""
    (tmp_path / "train").symlink_to(train)
    (tmp_path / "val").mkdir()
    for number in FLAT:
        shutil.copy(photographs[number], tmp_path / "val" / f"ILSVRC2012_val_{number:08d}.JPEG")
    return tmp_path


def make(root: Path) -> ImageNet:
    data = ImageNet(str(root), image_size=16, batch_size=100, workers=0)
    data.prepare_data()
    data.setup("fit")
    return data


def write_devkit(root: Path) -> None:
    """The development kit's files: numbers of its own for the classes, and synsets that are no classes after them."""
    folder = root / "ILSVRC2012_devkit_t12" / "data"
    folder.mkdir(parents=True)
    order = ["n02119789", "n15075141", *(wnid for wnid in WNIDS if wnid not in FLAT.values()), "n01440764", "n00001740"]
    synsets = np.empty(len(order), dtype=[("ILSVRC2012_ID", object), ("WNID", object), ("words", object)])
    synsets[:] = [(number, wnid, "some words") for number, wnid in enumerate(order, 1)]
    savemat(folder / "meta.mat", {"synsets": synsets})
    numbers = [order.index(wnid) + 1 for wnid in FLAT.values()]
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{number}\n" for number in numbers))


def write_kaggle_table(root: Path) -> None:
    rows = [f"ILSVRC2012_val_{number:08d},{wnid} 85 1 499 272 {wnid} 1 1 9 9 " for number, wnid in FLAT.items()]
    (root / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *reversed(rows), ""]))


def test_class_folders_in_both(root: Path, train: Path) -> None:
    shutil.rmtree(root / "val")
    (root / "val").symlink_to(train)
    data = make(root)
    assert (data.num_classes, data.input_size, data.evaluated_on) == (1000, (3, 16, 16), "test")
    assert data.class_names[0] == "tench, Tinca tinca"
    assert data.class_names[999].startswith("toilet tissue")
    assert torch.cat([labels for _, labels in data.val_dataloader()]).tolist() == list(range(1000))


@pytest.mark.parametrize("write_truth", [write_devkit, write_kaggle_table])
def test_a_flat_validation_folder_with_its_ground_truth(root: Path, write_truth) -> None:
    write_truth(root)
    ((_, labels),) = make(root).val_dataloader()
    assert labels.tolist() == [WNIDS.index(wnid) for wnid in FLAT.values()]


def test_a_flat_validation_folder_without_its_ground_truth(root: Path) -> None:
    message = (
        r"data=imagenet: .*/val has no class folders, so the ground truth is needed: unpack "
        r"ILSVRC2012_devkit_t12.tar.gz in .* \(looked for .*ground_truth.txt and .*meta.mat\), or put Kaggle's LOC_val"
    )
    with pytest.raises(UserError, match=message):
        make(root)


def test_a_ground_truth_of_other_images(root: Path) -> None:
    write_kaggle_table(root)
    (root / "val" / "ILSVRC2012_val_00000003.JPEG").rename(root / "val" / "ILSVRC2012_val_00000004.JPEG")
    with pytest.raises(UserError, match=r"/val has 3 images and the ground truth 3; not in it: ILSVRC2012_val_0000000"):
        make(root)
    (root / "val" / "ILSVRC2012_val_00000004.JPEG").unlink()
    with pytest.raises(UserError, match=r"/val has 2 images and the ground truth 3$"):
        make(root)


def test_999_classes(root: Path, train: Path, tmp_path: Path) -> None:
    (root / "train").unlink()
    shutil.copytree(train, root / "train", copy_function=os.link)
    shutil.rmtree(root / "train" / "n02119789")
    message = r"/train: 1,000 classes expected and 999 found \(missing: n02119789\); any other .* is data=image_folder"
    with pytest.raises(UserError, match=message):
        make(root)
    (root / "train" / "n01440764").rename(root / "train" / "tench")
    with pytest.raises(UserError, match=r"999 found \(missing: n01440764, n02119789; unknown: tench\)"):
        make(root)


def test_what_is_missing_and_where_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    message = (
        r"data=imagenet: looked in .* \(missing: val\). With an account at https://image-net.org/download-images fetch "
        r"ILSVRC2012_img_train.tar .*/train/<wnid>/ and .*/val/, .*data=digits needs no download"
    )
    with pytest.raises(UserError, match=message):
        ImageNet(str(tmp_path)).prepare_data()
    with pytest.raises(UserError, match=r"missing: train, val"):
        ImageNet(str(tmp_path / "nowhere")).setup("fit")


def test_a_class_folder_without_an_image(root: Path, train: Path) -> None:
    shutil.rmtree(root / "val")
    shutil.copytree(train, root / "val", copy_function=os.link)
    (root / "val" / "n02119789" / "n02119789_1.JPEG").unlink()
    with pytest.raises(UserError, match=r"/val/n02119789: this class has no image \(.jpg, .jpeg"):
        make(root)


def test_the_validation_images_are_evaluated_without_the_training_images(root: Path) -> None:
    write_kaggle_table(root)
    (root / "train").unlink()
    data = ImageNet(str(root), image_size=16, workers=0)
    data.prepare_test()
    data.setup("test")
    data.prepare_data()  # as Lightning does, which does not know
    labels = torch.cat([labels for _, labels in data.test_dataloader()])
    assert (data.num_classes, sorted(labels.tolist())) == (1000, sorted(map(WNIDS.index, FLAT.values())))
    with pytest.raises(UserError, match="missing: train"):
        data.setup("fit")
