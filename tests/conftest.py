"""Shared by all tests: one thread a worker, so that parallel workers do not fight over the cores; a tiny MNIST;
photograph-like JPEG files, small and few; a finished run; and the command line without a process of its own.

Nothing heavy is imported here: this file is also read by the process that only hands the tests to the workers.
"""

from __future__ import annotations

import gc
import logging
import struct
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

TINY_MNIST = {"train": 120, "t10k": 30}  # images; the real ones are 60,000 and 10,000


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage in what thousands of tests and their imports keep to the end, neither now nor later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let output be as wide as in a file: pytest tells its workers how wide the terminal is."""
    monkeypatch.delenv("COLUMNS", raising=False)


def write_idx(file: Path, values: np.ndarray) -> None:
    """Write bytes in the IDX format: a magic number, the sizes, the values."""
    file.parent.mkdir(parents=True, exist_ok=True)
    head = struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    file.write_bytes(head + values.astype(np.uint8).tobytes())


@pytest.fixture
def tiny_mnist(tmp_path: Path) -> Path:
    """Write MNIST's four files, with few images of noise, and return the root."""
    rng, raw = np.random.default_rng(0), tmp_path / "data" / "MNIST" / "raw"
    for part, count in TINY_MNIST.items():
        write_idx(raw / f"{part}-images-idx3-ubyte", rng.integers(0, 256, (count, 28, 28)))
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(count) % 10)
    return tmp_path / "data"


WritePhotographs = Callable[..., list[str]]
SIZES = ((60, 80), (80, 60), (50, 50), (47, 91), (120, 33))  # (height, width)


def photograph(seed: int, height: int, width: int) -> Image.Image:
    """Colours that change smoothly, as in a photograph out of focus."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def write_photographs(folder: Path, count: int, first: int = 0) -> list[str]:
    """Write ``count`` photographs of various sizes, numbered from ``first``; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i:04d}.jpg" for i in range(first, first + count)]
    for i, path in enumerate(paths, first):
        photograph(i, *SIZES[i % len(SIZES)]).save(path, quality=95)
    return [str(path) for path in paths]


@pytest.fixture(scope="session", name="write_photographs")
def _write_photographs() -> WritePhotographs:
    """For tests that need files of their own; test modules cannot import this one."""
    return write_photographs


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """26 JPEG files."""
    return write_photographs(tmp_path_factory.mktemp("photographs"), 26)


@pytest.fixture(scope="session")
def folder_of_photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``train`` with 13 photographs of each of two classes, ``val`` with 5 of each."""
    root = tmp_path_factory.mktemp("folder")
    for label, name in enumerate(("ant", "bee")):
        write_photographs(root / "train" / name, 13, first=13 * label)
        write_photographs(root / "val" / name, 5, first=100 + 5 * label)
    return root


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a tiny network's run on a few digits, trained once a worker; tests that change it copy it."""
    from efficientconv.runs.directory import RunDirectory
    from efficientconv.training.train import train
    from tests.training.conftest import TINY, resolved

    path = tmp_path_factory.mktemp("runs") / "tiny"
    train(resolved(), RunDirectory(path), overrides=TINY)
    return path


class Ended(NamedTuple):
    status: int
    stdout: str
    stderr: str


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Ended]]:
    """Return a function that runs a tool with some words, and returns its status and what it printed.

    The tool runs within the process of the tests, in an empty folder, with the logging put back afterwards.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")
    monkeypatch.setenv("EFFICIENTCONV_TRACEBACK", "")
    monkeypatch.setattr("sys.argv", ["pytest"])  # put back afterwards
    monkeypatch.setattr(logging, "raiseExceptions", True)
    from efficientconv.cli import run

    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    others = [logger for logger in root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    disabled = [logger.disabled for logger in others]

    def ended(tool: str, *words: str) -> Ended:
        status: Any = 0
        try:
            run(tool, list(words))
        except SystemExit as end:
            status = end.code
        return Ended(status, *capsys.readouterr())

    yield ended
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    for logger, was in zip(others, disabled, strict=True):
        logger.disabled = was
