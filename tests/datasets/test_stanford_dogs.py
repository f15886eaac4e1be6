from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torchvision.datasets import utils

from efficientconv.datasets import StanfordDogs
from efficientconv.errors import UserError

BREEDS = ("n02085620-Chihuahua", "n02085782-Japanese_spaniel", "n02085936-Maltese_dog")


def write_list(path: Path, files: list[str]) -> None:
    """A list as its authors saved it: cells of strings and columns of numbers from 1."""
    cells = np.empty((len(files), 1), dtype=object)
    cells[:, 0] = files
    labels = np.array([[BREEDS.index(name.partition("/")[0]) + 1] for name in files], dtype=np.uint8)
    savemat(path, {"file_list": cells, "annotation_list": cells, "labels": labels})


@pytest.fixture
def root(tmp_path: Path, write_photographs) -> Path:
    base = tmp_path / "stanford_dogs"
    files = []
    for breed in BREEDS:
        paths = write_photographs(base / "Images" / breed, 5)
        files += [f"{breed}/{Path(path).name}" for path in paths]
    write_list(base / "train_list.mat", [name for i, name in enumerate(files) if i % 5 < 3])
    write_list(base / "test_list.mat", [name for i, name in enumerate(files) if i % 5 >= 3])
    return tmp_path


def make(root: Path, **options) -> StanfordDogs:
    return StanfordDogs(str(root), image_size=16, batch_size=3, workers=0, **options)


def test_the_official_lists_are_the_splits(root: Path) -> None:
    data = make(root)
    data.prepare_data()
    data.setup("fit")
    assert data.class_names == ["Chihuahua", "Japanese_spaniel", "Maltese_dog"]
    assert data.evaluated_on == "test"
    assert torch.cat([labels for _, labels in data.train_dataloader()]).bincount().tolist() == [3, 3, 3]
    assert torch.cat([labels for _, labels in data.test_dataloader()]).tolist() == [0, 0, 1, 1, 2, 2]


def test_it_is_downloaded_with_its_checksums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    monkeypatch.setattr(utils, "download_and_extract_archive", lambda *args, **options: fetched.append((args, options)))
    make(tmp_path).prepare_data()
    site, folder = "http://vision.stanford.edu/aditya86/ImageNetDogs", str(tmp_path / "stanford_dogs")
    assert fetched == [
        ((f"{site}/images.tar", folder), {"md5": "1bb1f2a596ae7057f99d7d75860002ef"}),
        ((f"{site}/lists.tar", folder), {"md5": "edbb9f16854ec66506b5f09b583e0656"}),
    ]


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args, **options) -> None:
        raise OSError("no network")

    monkeypatch.setattr(utils, "download_and_extract_archive", fail)
    message = (
        r"data=stanford_dogs: looked in .*/stanford_dogs \(missing: Images, train_list.mat, test_list.mat\). "
        r"The download failed: no network. To fetch it by hand: unpack http://vision.stanford.edu/\S*/images.tar and "
        r"http://vision.stanford.edu/\S*/lists.tar in \S*/stanford_dogs   \(data=digits"
    )
    with pytest.raises(UserError, match=message):
        make(tmp_path).prepare_data()


def test_download_false_fetches_nothing(root: Path) -> None:
    (root / "stanford_dogs" / "test_list.mat").unlink()
    with pytest.raises(UserError, match=r"\(missing: test_list.mat\). data.download=false forbids fetching it"):
        make(root, download=False).prepare_data()
    with pytest.raises(UserError, match=r"\(missing: test_list.mat\). It was not fetched"):
        make(root).setup("fit")


def test_an_image_of_the_list_that_is_not_there(root: Path) -> None:
    missing = root / "stanford_dogs" / "Images" / BREEDS[1] / "0001.jpg"
    missing.unlink()
    with pytest.raises(UserError, match=rf"data=stanford_dogs: 1 of 9 image files are not there, the first {missing}"):
        make(root).setup("fit")
