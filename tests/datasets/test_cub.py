from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision.datasets import utils

from efficientconv.datasets import CUB200
from efficientconv.errors import UserError

BIRDS = ("001.Black_footed_Albatross", "002.Laysan_Albatross")


@pytest.fixture
def root(tmp_path: Path, write_photographs) -> Path:
    """Two birds, four photographs of each, of which the odd ones are for training."""
    base = tmp_path / "CUB_200_2011"
    files = []
    for bird in BIRDS:
        files += [f"{bird}/{Path(path).name}" for path in write_photographs(base / "images" / bird, 4)]
    lists = {
        "images.txt": files,
        "image_class_labels.txt": [BIRDS.index(name.partition("/")[0]) + 1 for name in files],
        "train_test_split.txt": [i % 2 for i in range(1, len(files) + 1)],
        "classes.txt": BIRDS,
    }
    for name, values in lists.items():
        (base / name).write_text("".join(f"{i} {value}\n" for i, value in enumerate(values, 1)))
    return tmp_path


def make(root: Path) -> CUB200:
    data = CUB200(str(root), image_size=16, batch_size=2, workers=0)
    data.prepare_data()
    data.setup("fit")
    return data


def test_the_official_lists_are_the_splits(root: Path) -> None:
    data = make(root)
    assert data.class_names == ["Black_footed_Albatross", "Laysan_Albatross"]
    train, test = data.train_dataloader().listing, data.test_dataloader().listing
    assert [Path(path).name for path in train.paths] == ["0000.jpg", "0002.jpg"] * 2
    assert [Path(path).name for path in test.paths] == ["0001.jpg", "0003.jpg"] * 2
    assert torch.cat([labels for _, labels in data.test_dataloader()]).tolist() == [0, 0, 1, 1]


def test_it_is_downloaded_with_its_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    monkeypatch.setattr(utils, "download_and_extract_archive", lambda *args, **options: fetched.append((args, options)))
    CUB200(str(tmp_path)).prepare_data()
    url = "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz"
    assert fetched == [((url, str(tmp_path)), {"md5": "97eceeb196236b17998738112f37df78"})]


def test_a_list_is_missing(root: Path) -> None:
    (root / "CUB_200_2011" / "classes.txt").unlink()
    with pytest.raises(UserError, match=r"data=cub200: looked in .*CUB_200_2011 \(missing: classes.txt\)"):
        CUB200(str(root), download=False).prepare_data()


def test_an_image_of_the_list_that_is_not_there(root: Path) -> None:
    missing = root / "CUB_200_2011" / "images" / BIRDS[1] / "0001.jpg"
    missing.unlink()
    with pytest.raises(UserError, match=rf"data=cub200: 1 of 8 image files are not there, the first {missing}"):
        make(root)
