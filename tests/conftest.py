"""Shared by all tests: one thread a worker, so that parallel workers do not fight over the cores; and a tiny MNIST."""

import struct
from pathlib import Path

import numpy as np
import pytest

TINY_MNIST = {"train": 120, "t10k": 30}  # images; the real ones are 60,000 and 10,000


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


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
