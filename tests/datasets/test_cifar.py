from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision import datasets
from torchvision.datasets import cifar as source

from efficientconv.datasets import CIFAR
from efficientconv.errors import UserError


def write(path: Path, content: dict) -> str:
    """Pickle ``content`` as the official files are, and return the checksum."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))
    return hashlib.md5(path.read_bytes()).hexdigest()


def batch(rng: np.random.Generator, key: str, classes: int) -> dict:
    count = 2 * classes
    pixels = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
    return {"data": pixels, key: [i % classes for i in range(count)]}


@pytest.fixture
def cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CIFAR-10 in the official layout, 20 images a file; torchvision is told the checksums."""
    rng, folder = np.random.default_rng(0), tmp_path / "cifar-10-batches-py"
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    sums = [[name, write(folder / name, batch(rng, "labels", 10))] for name in names]
    classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    meta = write(folder / "batches.meta", {"label_names": classes})
    monkeypatch.setattr(datasets.CIFAR10, "train_list", sums[:5])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", sums[5:])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {**datasets.CIFAR10.meta, "md5": meta})
    return tmp_path


@pytest.fixture
def cifar100(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rng, folder = np.random.default_rng(0), tmp_path / "cifar-100-python"
    sums = {name: write(folder / name, batch(rng, "fine_labels", 100)) for name in ("train", "test")}
    meta = write(folder / "meta", {"fine_label_names": [f"class {i}" for i in range(100)]})
    monkeypatch.setattr(datasets.CIFAR100, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(datasets.CIFAR100, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(datasets.CIFAR100, "meta", {**datasets.CIFAR100.meta, "md5": meta})
    return tmp_path


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args, **kwargs) -> None:
        raise URLError("no network")

    monkeypatch.setattr(source, "download_and_extract_archive", fail)


def test_cifar10_in_the_official_layout(cifar10: Path) -> None:
    data = CIFAR(10, root=str(cifar10), batch_size=10, normalize=False)
    data.prepare_data()
    data.setup("fit")
    assert (data.num_classes, data.input_size, data.class_names[9]) == (10, (3, 32, 32), "truck")
    raw = pickle.loads((cifar10 / "cifar-10-batches-py" / "test_batch").read_bytes())
    images, labels = next(iter(data.test_dataloader()))
    assert torch.equal((images * 255).round().to(torch.uint8).flatten(1), torch.from_numpy(raw["data"]))
    assert labels.tolist() == raw["labels"]
    assert sum(len(labels) for _, labels in data.train_dataloader()) == 100


@pytest.mark.parametrize("classes", [10, 100])
def test_the_test_images_need_no_training_images_beside_them(
    classes: int, request: pytest.FixtureRequest, offline: None
) -> None:
    root = request.getfixturevalue(f"cifar{classes}")
    whole = CIFAR(classes, root=str(root))
    whole.prepare_data()
    whole.setup("test")
    for name in set(whole.needed) - set(whole.needed_for_test):
        (whole.base / name).unlink()
    data = CIFAR(classes, root=str(root))
    data.prepare_test()
    data.setup("test")
    data.prepare_data()  # as Lightning does once more
    (images, labels), (expected, theirs) = (next(iter(each.test_dataloader())) for each in (data, whole))
    assert torch.equal(images, expected)
    assert torch.equal(labels, theirs)
    assert data.class_names == whole.class_names
    with pytest.raises(UserError, match=r"missing: (data_batch_1, .*|train)\). The download failed"):
        CIFAR(classes, root=str(root)).prepare_data()


def test_cifar100_has_the_fine_labels(cifar100: Path) -> None:
    data = CIFAR(100, root=str(cifar100), batch_size=10)
    data.prepare_data()
    data.setup("fit")
    assert (data.num_classes, data.class_names[99]) == (100, "class 99")
    assert data.normalization is not None
    assert data.normalization.mean == (0.5071, 0.4865, 0.4409)


def test_missing_files_and_no_network(tmp_path: Path, offline: None) -> None:
    message = (
        r"data=cifar10: looked in .*/cifar-10-batches-py \(missing: data_batch_1, .*, test_batch, batches.meta\)\. "
        r"The download failed: .*no network.*\. To fetch it by hand: mkdir -p .* && "
        r"curl -L https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz \| tar -xz -C .*data=digits needs no download"
    )
    with pytest.raises(UserError, match=message):
        CIFAR(10, root=str(tmp_path)).prepare_data()


def test_half_downloaded_files(cifar10: Path, offline: None) -> None:
    folder = cifar10 / "cifar-10-batches-py"
    (folder / "data_batch_3").unlink()
    (folder / "test_batch").write_bytes((folder / "test_batch").read_bytes()[:1000])
    with pytest.raises(UserError, match=r"\(missing: data_batch_3; damaged: test_batch\)"):
        CIFAR(10, root=str(cifar10)).prepare_data()


def test_an_interrupted_download_is_done_again(cifar10: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = cifar10 / "cifar-10-batches-py" / "data_batch_2"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:500])
    monkeypatch.setattr(source, "download_and_extract_archive", lambda *args, **kwargs: damaged.write_bytes(whole))
    data = CIFAR(10, root=str(cifar10), batch_size=10)
    data.prepare_data()
    data.setup("fit")
    assert len(data.train_dataloader()) == 10


def test_download_false_fetches_nothing(tmp_path: Path) -> None:
    data = CIFAR(100, root=str(tmp_path / "new"), download=False)
    with pytest.raises(UserError, match=r"data=cifar100: .*missing: train, test, meta.*data.download=false forbids"):
        data.prepare_data()
    with pytest.raises(UserError, match=r"data=cifar100: .*missing: train, test, meta.*It was not fetched"):
        data.setup("fit")


def test_other_numbers_of_classes_are_refused() -> None:
    with pytest.raises(UserError, match=r"data.classes=20: CIFAR has 10 or 100 classes"):
        CIFAR(20)
