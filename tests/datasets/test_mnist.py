from __future__ import annotations

import gzip
import hashlib
import shutil
from collections.abc import Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torchvision import datasets

from efficientconv.config_path import CONFIGS
from efficientconv.datasets import MNIST, mnist
from efficientconv.datasets.mnist import TEST, TRAIN, read_idx
from efficientconv.errors import UserError
from efficientconv.runs.directory import RunDirectory
from efficientconv.training.evaluate import evaluate
from efficientconv.training.train import train
from efficientconv.transforms.batch import Normalization
from tests.conftest import write_idx


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args, **kwargs) -> None:
        raise URLError("no network")

    monkeypatch.setattr(mnist, "download_and_extract_archive", fail)


@pytest.fixture
def raw(tiny_mnist: Path) -> Path:
    return tiny_mnist / "MNIST" / "raw"


def ready(root: Path, **options) -> MNIST:
    data = MNIST(root=str(root), batch_size=20, **options)
    data.prepare_data()
    data.setup("fit")
    return data


def all_images(batches) -> torch.Tensor:
    return torch.cat([images for images, _ in batches])


def test_the_official_files_are_read_as_they_are(tiny_mnist: Path, raw: Path, offline: None) -> None:
    data = ready(tiny_mnist, normalize=False)
    assert (data.num_classes, data.input_size, data.evaluated_on) == (10, (1, 28, 28), "test")
    assert data.class_names == [str(digit) for digit in range(10)]
    images = all_images(data.test_dataloader())
    content = (raw / "t10k-images-idx3-ubyte").read_bytes()[16:]
    assert (images * 255).round().to(torch.uint8).numpy().tobytes() == content
    assert torch.cat([labels for _, labels in data.test_dataloader()]).tolist() == list(range(10)) * 3
    assert len(all_images(data.train_dataloader())) == 120


def test_torchvision_reads_the_same(tiny_mnist: Path) -> None:
    splits = ready(tiny_mnist).load()
    for part, is_train in ((splits.train, True), (splits.test, False)):
        theirs = datasets.MNIST(tiny_mnist, train=is_train)
        assert torch.equal(part.images.squeeze(1), theirs.data)
        assert torch.equal(part.labels, theirs.targets)


def test_the_test_images_need_no_training_images_beside_them(tiny_mnist: Path, raw: Path, offline: None) -> None:
    expected = all_images(ready(tiny_mnist).test_dataloader())
    for name in TRAIN:
        (raw / name).unlink()
    data = MNIST(root=str(tiny_mnist))
    data.prepare_test()
    data.setup("test")
    data.prepare_data()  # as Lightning does once more
    assert torch.equal(all_images(data.test_dataloader()), expected)
    with pytest.raises(UserError, match=rf"missing: {TRAIN[0]}, {TRAIN[1]}\). The download failed"):
        MNIST(root=str(tiny_mnist)).prepare_data()
    (raw / TEST[0]).unlink()
    with pytest.raises(UserError, match=rf"missing: {TEST[0]}\). The download failed"):
        MNIST(root=str(tiny_mnist)).prepare_test()


def test_three_channels_are_equal(tiny_mnist: Path) -> None:
    one, three = (ready(tiny_mnist, channels=channels) for channels in (1, 3))
    assert three.input_size == (3, 28, 28)
    grey = all_images(one.test_dataloader())
    assert torch.equal(all_images(three.test_dataloader()), grey.expand(-1, 3, -1, -1))


def test_normalisation_is_the_published_one_unless_another_is_given(tiny_mnist: Path) -> None:
    pixels = all_images(ready(tiny_mnist, normalize=False).test_dataloader())
    published, given = ready(tiny_mnist), ready(tiny_mnist, normalize={"mean": [0.5], "std": [2]})
    assert published.normalization == Normalization((0.1307,), (0.3081,))
    torch.testing.assert_close(all_images(published.test_dataloader()), (pixels - 0.1307) / 0.3081)
    torch.testing.assert_close(all_images(given.test_dataloader()), (pixels - 0.5) / 2)
    with pytest.raises(UserError, match=r"data.normalize: 3 of each of mean and std given, for images of 1 channels"):
        ready(tiny_mnist, normalize={"mean": [0.5] * 3, "std": [2] * 3})


def test_a_tenth_of_every_class_is_held_out(tiny_mnist: Path) -> None:
    data = ready(tiny_mnist, val_split=0.1)
    assert data.evaluated_on == "validation"
    held_out = torch.cat([labels for _, labels in data.val_dataloader()])
    assert torch.bincount(held_out).tolist() == [1] * 10
    assert len(all_images(data.train_dataloader())) == 110


def test_crops_shift_and_nothing_is_mirrored(tiny_mnist: Path) -> None:
    data = ready(tiny_mnist, crop_padding=2)
    assert (data.augmentation.padding, data.augmentation.flip) == (2, False)
    with pytest.raises(TypeError, match="flip"):
        MNIST(flip=True)


def test_missing_files_and_no_network(tmp_path: Path, offline: None) -> None:
    message = (
        r"data=mnist: looked in .*/MNIST/raw \(missing: train-images-idx3-ubyte, train-labels-idx1-ubyte, "
        r"t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte\)\. The download failed: https://ossci-datasets\S*/mnist/"
        r"train-images-idx3-ubyte.gz: .*no network.*; http://yann.lecun.com/.*no network.*\. To fetch it by hand: "
        r"mkdir -p \S*/MNIST/raw && for name in train-images-idx3-ubyte .* do curl -L https://\S*/mnist/\$name.gz "
        r"\| gunzip > \S*/MNIST/raw/\$name; done .*data=digits needs no download"
    )
    with pytest.raises(UserError, match=message):
        MNIST(root=str(tmp_path)).prepare_data()


def test_truncated_files(tiny_mnist: Path, raw: Path, offline: None) -> None:
    (raw / TRAIN[0]).write_bytes((raw / TRAIN[0]).read_bytes()[:-1])
    (raw / TEST[0]).write_bytes(b"")
    (raw / TEST[1]).unlink()
    message = (
        r"\(missing: t10k-labels-idx1-ubyte; damaged: train-images-idx3-ubyte, t10k-images-idx3-ubyte\)\. The download"
    )
    with pytest.raises(UserError, match=message):
        ready(tiny_mnist)


def test_labels_of_other_images(tiny_mnist: Path, raw: Path, offline: None) -> None:
    shutil.copy(raw / TEST[1], raw / TRAIN[1])
    with pytest.raises(UserError, match=r"\(damaged: train-images-idx3-ubyte, train-labels-idx1-ubyte\)"):
        ready(tiny_mnist)


def test_a_label_that_is_no_digit(tiny_mnist: Path, raw: Path) -> None:
    write_idx(raw / TEST[1], np.arange(30))
    with pytest.raises(UserError, match=r"t10k-labels-idx1-ubyte: has a label 29; MNIST's are 0 to 9"):
        ready(tiny_mnist)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda content: content[:6], id="a cut head"),
        pytest.param(lambda content: content[:-1], id="cut at its end"),
        pytest.param(lambda content: content + b"\0", id="too long"),
        pytest.param(lambda content: content[:3] + b"\1" + content[4:], id="labels"),
        pytest.param(lambda content: content[:8] + bytes((0, 0, 0, 4, 0, 0, 0, 3)) + content[16:], id="another size"),
        pytest.param(lambda content: content[:4] + bytes(4) + content[8:16], id="empty"),
    ],
)
def test_what_is_no_idx_file_is_refused(tmp_path: Path, change) -> None:
    values = np.arange(24).reshape(2, 3, 4)
    write_idx(tmp_path / "file", values)
    assert read_idx(tmp_path / "file", 3, 4).tolist() == values.tolist()
    (tmp_path / "file").write_bytes(change((tmp_path / "file").read_bytes()))
    with pytest.raises(ValueError, match=r"file: no whole IDX file of N×3×4 unsigned bytes"):
        read_idx(tmp_path / "file", 3, 4)


@pytest.fixture
def mirror(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Serve the four files packed, as a mirror of them does, and say which were asked for; the first mirror is down."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args) -> None:
            asked.append(self.path)

    sums = []
    for name in (*TRAIN, *TEST):
        packed = tmp_path / f"{name}.gz"
        packed.write_bytes(gzip.compress((raw / name).read_bytes()))
        sums.append((packed.name, hashlib.md5(packed.read_bytes()).hexdigest()))
    with HTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path))) as server:
        Thread(target=server.serve_forever).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(datasets.MNIST, "mirrors", [f"{address}/nowhere/", f"{address}/"])
        monkeypatch.setattr(datasets.MNIST, "resources", sums)
        yield asked
        server.shutdown()


def test_only_what_is_not_whole_is_downloaded(tiny_mnist: Path, raw: Path, mirror: list[str]) -> None:
    whole = {name: (raw / name).read_bytes() for name in (*TRAIN, *TEST)}
    (raw / TRAIN[0]).write_bytes(whole[TRAIN[0]][:500])
    (raw / TEST[1]).unlink()
    ready(tiny_mnist)
    assert {name: (raw / name).read_bytes() for name in whole} == whole
    assert {path for path in mirror if "nowhere" not in path} == {f"/{TRAIN[0]}.gz", f"/{TEST[1]}.gz"}


def test_a_wrong_checksum_is_a_failed_download(tiny_mnist: Path, raw: Path, mirror: list[str], tmp_path: Path) -> None:
    (raw / TEST[0]).unlink()
    (tmp_path / f"{TEST[0]}.gz").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"\(missing: t10k-images-idx3-ubyte\). The download failed: .*corrupted"):
        ready(tiny_mnist)


def test_download_false_fetches_nothing(tmp_path: Path) -> None:
    data = MNIST(root=str(tmp_path / "new"), download=False)
    with pytest.raises(UserError, match=r"data=mnist: .*missing: train-images.*data.download=false forbids"):
        data.prepare_data()
    with pytest.raises(UserError, match=r"data=mnist: .*missing: train-images.*It was not fetched"):
        data.setup("fit")


@pytest.mark.parametrize(("words", "channels"), [([], 3), (["model.in_channels=1"], 1)])
def test_the_sample_of_doconv_trains_and_is_evaluated(tiny_mnist: Path, tmp_path: Path, words, channels: int) -> None:
    overrides = ["model=lenet_doconv_sample", "conv=doconv", "recipe=doconv_sample", "trainer.accelerator=cpu", *words]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        composed = compose("train", overrides=[*overrides, "data=mnist", f"data.root={tiny_mnist}"])
    config: Any = OmegaConf.to_container(composed, resolve=True)
    assert config["data"]["channels"] == channels
    run = RunDirectory(tmp_path / "run")
    train(config | {"choices": {"model": "lenet_doconv_sample", "conv": "doconv", "data": "mnist"}}, run)
    plain = channels * 16 * 9 + 16 * 16 * 9 + 16 * 10 * 9 + 16 + 16 + 10
    assert run.read_summary()["params"] == plain + (channels + 16 + 16) * 9 * 9
    assert run.read_summary()["macs"] == (channels * 14**2 + 16 * 7**2 + 10 * 4**2) * 16 * 9
    assert evaluate(run, config["trainer"])["top1"] == run.read_summary()["last"]["top1"]
