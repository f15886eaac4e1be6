"""What the patches rely on in the installed Lightning: one that changes it fails here, not in somebody's training."""

import inspect
import mmap
import re
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from torch.utils._pytree import LeafSpec

from efficientconv.training.lightning_patches import FROM_TORCH_S_CORE, NOT_FOR_THE_USER, skip_sigterm_broadcast

LIGHTNING, TORCH = Path(pl.__file__).parent, Path(torch.__file__).parent
WARNING_FILES = (
    TORCH / "utils" / "_pytree.py",
    LIGHTNING / "trainer" / "connectors" / "data_connector.py",
    LIGHTNING / "loops" / "fit_loop.py",
    LIGHTNING / "trainer" / "setup.py",
    LIGHTNING / "trainer" / "connectors" / "logger_connector" / "result.py",
    TORCH / "optim" / "lr_scheduler.py",
    LIGHTNING / "loops" / "fit_loop.py",
)


def test_the_loop_asks_for_a_sigterm_in_the_one_place_that_is_patched():
    assert "self._broadcast_sigterm_tensor()" in inspect.getsource(_TrainingEpochLoop.advance)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    assert type(trainer.fit_loop.epoch_loop) is _TrainingEpochLoop
    skip_sigterm_broadcast(trainer)
    assert trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor() is None


@pytest.mark.parametrize(("pattern", "file"), list(zip(NOT_FOR_THE_USER, WARNING_FILES, strict=True)))
def test_each_warning_that_is_silenced_still_reads_so(pattern, file):
    if file.name == "_pytree.py" and not hasattr(LeafSpec, "__deprecated__"):
        pytest.skip("this torch, older than 2.10, does not warn of LeafSpec")
    source = re.sub(r"\{[^}]*\}", "x", file.read_text())  # x for what an f-string puts in
    assert re.search(pattern, source), pattern


@pytest.mark.parametrize("text", FROM_TORCH_S_CORE)
def test_each_warning_of_torch_s_core_that_is_silenced_still_reads_so(text):
    found = False
    for library in (TORCH / "lib").glob("libtorch*"):
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found = found or content.find(text.encode()) >= 0
    assert found
