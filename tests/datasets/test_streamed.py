from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback, LightningModule

from efficientconv.datasets import streamed as streamed_data
from efficientconv.datasets.image_folder import StreamedFolder
from efficientconv.datasets.streamed import (
    IMAGENET_NORMALIZATION,
    available_workers,
    batch_dtype,
    dali_is_installed,
    dali_problem,
)
from efficientconv.errors import UserError
from efficientconv.loaders import dali_loader
from efficientconv.transforms import RandomAreaCrop
from efficientconv.transforms.batch import Normalization
from tests.fits import SaveAt, fitted


def make(root: Path, **options) -> StreamedFolder:
    return StreamedFolder(str(root), **{"image_size": 16, "batch_size": 4, "workers": 0, "loader": "torch", **options})


def test_auto_is_dali_where_it_is_installed_and_the_choice_is_printed(
    folder_of_photographs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kinds = []
    for installed in (True, False):
        monkeypatch.setattr(streamed_data, "dali_is_installed", lambda installed=installed: installed)
        data = make(folder_of_photographs, loader="auto")
        with caplog.at_level(logging.INFO):
            kinds += [type(loader).__name__ for loader in (data.train_dataloader(), data.val_dataloader())]
    assert kinds == ["DaliLoader", "DaliLoader", "TorchLoader", "TorchLoader"]
    assert caplog.messages == [
        "data=image_folder: 26 training images, read by NVIDIA DALI",
        "data=image_folder: 26 training images, read by torch's DataLoader: NVIDIA DALI is not installed",
    ]


def failing(error: Exception) -> Callable:
    def fail(device: torch.device) -> None:
        raise error

    return fail


OLD_DRIVER = RuntimeError(  # as DALI words it, after a traceback
    "Critical error when building pipeline:\nencountered:\n\nCUDA runtime API error cudaErrorInsufficientDriver (35):\n"
    "CUDA driver version is insufficient for CUDA runtime version"
)


@pytest.mark.parametrize("error", [OLD_DRIVER, ImportError("libnvjpeg.so.13: cannot open shared object file")])
def test_where_dali_does_not_work_torch_reads_unless_dali_is_asked_for(
    folder_of_photographs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    monkeypatch.setattr(dali_loader, "run_smallest_pipeline", failing(error))
    reason = r"NVIDIA DALI does not work on cpu here \((CUDA runtime API error cudaError.*|libnvjpeg.*)\)"
    data = make(folder_of_photographs, loader="auto")
    with caplog.at_level(logging.INFO):
        assert type(data.train_dataloader()).__name__ == "TorchLoader"
    assert len(caplog.messages) == 1
    assert re.search(f"26 training images, read by torch's DataLoader: {reason}$", caplog.messages[0])
    with pytest.raises(UserError, match=f"^data.loader=dali: {reason}; use data.loader=torch$"):
        make(folder_of_photographs, loader="dali").train_dataloader()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_dali_says_itself_that_there_is_no_gpu() -> None:
    assert dali_problem(torch.device("cpu")) is None
    assert re.search(r"^does not work on cuda here \(.*CUDA is not available", dali_problem(torch.device("cuda")) or "")


def test_dali_is_found_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert dali_is_installed() == (find_spec("nvidia") is not None and find_spec("nvidia.dali") is not None)

    def no_parent(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(streamed_data, "find_spec", no_parent)
    assert not dali_is_installed()


def test_dali_asked_for_and_not_installed(folder_of_photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed_data, "dali_is_installed", lambda: False)
    message = r"data.loader=dali: NVIDIA DALI is not installed; pip install nvidia-dali-cuda130 .* data.loader=torch"
    with pytest.raises(UserError, match=message):
        make(folder_of_photographs, loader="dali")


@pytest.mark.parametrize("loader", ["torch", "dali"])
def test_bad_images_are_counted_over_all_splits(
    tmp_path: Path, write_photographs, caplog: pytest.LogCaptureFixture, loader: str
) -> None:
    for split, name in (("val", "ant"), ("val", "bee"), ("train", "bee"), ("train", "ant")):
        paths = write_photographs(tmp_path / split / name, 6)
        Path(paths[2]).write_text("not an image")
    data = make(tmp_path, loader=loader, max_bad_images=4, eval_batch_size=2)
    data.setup("fit")
    for batches in (data.train_dataloader(), data.val_dataloader()):
        assert sum(len(labels) for _, labels in batches) == 10
    assert data.bad_images == 4


@pytest.mark.parametrize(
    ("normalize", "expected"),
    [
        (True, IMAGENET_NORMALIZATION),
        (False, None),
        ({"mean": [0.5] * 3, "std": [2] * 3}, Normalization((0.5,) * 3, (2,) * 3)),
    ],
)
def test_normalisation(folder_of_photographs: Path, normalize, expected: Normalization | None) -> None:
    data = make(folder_of_photographs, normalize=normalize)
    data.setup("fit")
    assert data.normalization == data.train_dataloader().normalization == expected


def test_a_validation_split_is_streamed_too(folder_of_photographs: Path) -> None:
    data = make(folder_of_photographs, val_split=0.2, train_fraction=0.5)
    data.setup("fit")
    assert data.evaluated_on == "validation"
    counts = [
        torch.cat([y for _, y in batches]).bincount().tolist()
        for batches in (data.train_dataloader(), data.val_dataloader())
    ]
    assert counts == [[5, 5], [3, 3]]


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("32-true", torch.float32),
        ("16-mixed", torch.float16),
        ("bf16-mixed", torch.bfloat16),
        ("bf16-true", torch.bfloat16),
        ("64-true", torch.float32),
    ],
)
def test_loaders_follow_the_trainer(folder_of_photographs: Path, precision: str, dtype: torch.dtype) -> None:
    data = make(folder_of_photographs, seed=5)
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        strategy=SimpleNamespace(root_device=torch.device("meta")),
        global_rank=1,
        world_size=2,
        num_devices=2,
        precision=precision,
    )
    loader = data.train_dataloader()
    assert (loader.dtype, loader.device.type) == (dtype, "meta")
    assert (loader.rank, loader.world_size, loader.seed) == (1, 2, 5)


def test_names_of_precisions_in_short() -> None:
    assert batch_dtype("16") == torch.float16
    assert batch_dtype("bf16") == torch.bfloat16


def test_cores_are_shared_between_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(24), raising=False)
    assert [available_workers(devices) for devices in (1, 2, 8, 48)] == [16, 12, 3, 1]


def test_workers_are_the_cores_unless_told(folder_of_photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed_data, "available_workers", lambda devices: 1)
    loaders = [make(folder_of_photographs, workers=workers).val_dataloader() for workers in (None, 0)]
    assert [loader.workers for loader in loaders] == [1, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loader": "memory"}, "data.loader=memory: must be one of auto, dali, torch"),
        ({"image_size": 0}, "data.image_size=0: must be a whole number of at least 1"),
        ({"workers": -1}, "data.workers=-1: must be a whole number of at least 0"),
        (
            {"train_crop": partial(RandomAreaCrop, area=[0, 1])},
            r"data.image_size=16: area=\[0, 1\]: must be",
        ),
        ({"color_jitter": {"hue": 1}}, "data.color_jitter={'hue': 1}: must be null or any of"),
    ],
)
def test_impossible_values_are_refused_at_once(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(tmp_path, **options)


class Recorder(LightningModule):
    """Learns nothing, and notes the batches it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)
        self.trained: list[tuple[int, int, float]] = []
        self.validated: list[tuple[int, int, float]] = []

    def training_step(self, batch, batch_idx: int) -> torch.Tensor:
        images, labels = batch
        self.trained.append((self.current_epoch, len(labels), images.double().sum().item()))
        return torch.nn.functional.cross_entropy(self.layer(images.mean((2, 3))), labels)

    def validation_step(self, batch, batch_idx: int) -> None:
        images, labels = batch
        self.validated.append((self.current_epoch, len(labels), images.double().sum().item()))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(data: StreamedFolder, *callbacks: Callback, resume: Path | None = None, **options) -> Recorder:
    return fitted(Recorder(), data, *callbacks, resume=resume, max_epochs=4, **options)


def sizes(batches: list[tuple[int, int, float]]) -> list[int]:
    return [sum(size for epoch, size, _ in batches if epoch == wanted) for wanted in range(4)]


@pytest.fixture(scope="module", params=["torch", "dali"])
def loader(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def data(loader: str, folder_of_photographs: Path) -> StreamedFolder:
    return make(folder_of_photographs, loader=loader, eval_batch_size=4)


@pytest.fixture(scope="module")
def undisturbed(loader: str, folder_of_photographs: Path) -> Recorder:
    return fit(make(folder_of_photographs, loader=loader, eval_batch_size=4))


def test_lightning_trains_and_validates_whole_epochs(undisturbed: Recorder) -> None:
    assert sizes(undisturbed.trained) == [26] * 4
    assert sizes(undisturbed.validated) == [10] * 4
    assert len({content for _, _, content in undisturbed.trained}) == 28
    assert len({content for _, _, content in undisturbed.validated}) == 3


def test_lightning_stopping_epochs_early_takes_nothing_from_the_next(
    undisturbed: Recorder, data: StreamedFolder
) -> None:
    shortened = fit(data, limit_train_batches=3, limit_val_batches=1)
    expected = [batches for epoch in range(4) for batches in undisturbed.trained[7 * epoch : 7 * epoch + 3]]
    assert shortened.trained == expected
    assert sizes(shortened.validated) == [4] * 4


@pytest.mark.parametrize(
    ("hook", "count", "trained"),
    [("on_train_batch_end", 1, 1), ("on_train_batch_end", 12, 12), ("on_train_epoch_end", 2, 14)],
)
def test_lightning_resumes_with_exactly_the_images_not_seen(
    undisturbed: Recorder, data: StreamedFolder, tmp_path: Path, hook: str, count: int, trained: int
) -> None:
    interrupted = fit(data, SaveAt(hook, count, tmp_path / "a.ckpt"))
    assert interrupted.trained == undisturbed.trained
    resumed = make(data.root, loader=data.loader, eval_batch_size=4)
    assert fit(resumed, resume=tmp_path / "a.ckpt").trained == undisturbed.trained[trained:]


def test_bad_images_are_remembered_by_a_resumed_run(tmp_path: Path, write_photographs) -> None:
    for split, name in (("val", "bee"), ("val", "ant"), ("train", "bee"), ("train", "ant")):
        paths = write_photographs(tmp_path / split / name, 6)
    bad = tmp_path / "train" / "ant" / Path(paths[2]).name
    bad.write_text("not an image")
    first, resumed = (make(tmp_path, max_bad_images=1) for _ in range(2))
    list(first.train_dataloader())
    resumed.load_state_dict(first.state_dict())
    assert resumed.bad_files.paths == {str(bad)}
    assert resumed.bad_images == 1
