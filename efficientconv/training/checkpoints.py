"""When a run's state is saved, and what of it Lightning leaves out: the states of the random number generators."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Checkpoint

from efficientconv.atomic import replaced_whole
from efficientconv.errors import Interrupted, UserError, first_line
from efficientconv.runs.directory import RunDirectory
from efficientconv.training.progress import require_finite
from efficientconv.training.recorder import Recorder
from efficientconv.training.stopping import Agreement, StopRequest, of_all_ranks

SECONDS_PER_MINUTE = 60


class Checkpoints(Checkpoint):
    """Saves ``last.ckpt`` and, by ``val/top1``, ``best.ckpt``.

    The last one is saved after every epoch, every so often within one, and when the run is asked to stop.
    Lightning's own ``ModelCheckpoint`` would take three instances, and saves on Ctrl+C in the middle of a step, when
    the weights have moved and the loop's counters have not.

    Args:
        run: where to save.
        stop: the stop signal to obey at the end of a step.
        recorder: knows whether an epoch is the best one so far.
        every_n_minutes: the longest time within an epoch between two saves; ``None`` saves only after epochs.
        every_n_steps: save within an epoch whenever so many optimizer steps were taken; ``None`` is never.
    """

    def __init__(
        self,
        run: RunDirectory,
        stop: StopRequest,
        recorder: Recorder,
        every_n_minutes: float | None,
        every_n_steps: int | None,
    ) -> None:
        self.run, self.stop, self.recorder = run, stop, recorder
        self.every_n_minutes, self.every_n_steps = every_n_minutes, every_n_steps
        self.agreement = Agreement(wishes=2)
        self.step = 0
        self.saved_at = time.monotonic()

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Take the signals back from Lightning, whose handler ends the run without a checkpoint and with status 0."""
        self.stop.take_signals()
        self.agreement.open()
        self.step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        """Save where it is time to, and stop where that was asked for.

        Not between two steps of the optimizer: accumulated gradients are not in a checkpoint. And not after the last
        step of an epoch, whose validation Lightning would skip in the resumed run.
        """
        if trainer.is_last_batch or trainer.global_step == self.step:
            return
        self.step = trainer.global_step
        due, signum = self.agreement(self._is_due(), self.stop.signum or 0)
        if due or signum or (self.every_n_steps and self.step % self.every_n_steps == 0):
            self._save(trainer, "last")
        if signum:
            raise Interrupted(signum)

    def _is_due(self) -> bool:
        if self.every_n_minutes is None:
            return False
        return time.monotonic() - self.saved_at > self.every_n_minutes * SECONDS_PER_MINUTE

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Save the epoch, as the best one too where it is."""
        if self.recorder.is_best:
            self._save(trainer, "best")
        self._save(trainer, "last")
        self.step = trainer.global_step
        _, signum = self.agreement.at_once(False, self.stop.signum or 0)
        if signum:
            raise Interrupted(signum)

    def _save(self, trainer: Trainer, name: str) -> None:
        require_finite(trainer)  # the last good checkpoint stays
        with replaced_whole(self.run.checkpoint(name)) as temporary:
            trainer.save_checkpoint(temporary)  # by way of the system's temporary directory, perhaps on another disk
        self.saved_at = time.monotonic()


class RandomState(Callback):
    """Carries the random number generators of every rank over a restart.

    As tensors, numbers and lists, so that ``weights_only=True`` loads them.
    """

    def __init__(self) -> None:
        self.restored: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the states of each rank's generators."""
        return {"ranks": of_all_ranks(generator_states())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep the states until training starts, so that nothing draws from them before."""
        self.restored = state

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Set this rank's generators to where the checkpoint left them, if it was there then."""
        if self.restored is not None and trainer.global_rank < len(self.restored["ranks"]):
            set_generator_states(self.restored["ranks"][trainer.global_rank])
        elif trainer.global_rank:  # its mixup and dropout should not be those of the first rank again
            seed_everything(torch.initial_seed() + trainer.global_rank, verbose=False)


def generator_states() -> dict[str, Any]:
    """Return the states of torch's, CUDA's, numpy's and Python's generators."""
    version, numbers, gauss = random.getstate()
    name, keys, position, has_gauss, cached = cast(tuple, np.random.get_state(legacy=True))
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached],
        "python": [version, list(numbers), gauss],
    }


def set_generator_states(states: Mapping[str, Any]) -> None:
    """Set the generators to what `generator_states` returned; CUDA's where there are as many devices."""
    torch.set_rng_state(states["torch"])
    if len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, as data: nothing in it is run.

    Raises:
        UserError: there is none, it is cut off, or it holds anything but tensors and plain values.
    """
    checkpoint = read_tensors(file)
    if "state_dict" not in checkpoint:
        raise UserError(f"{file} is not a checkpoint of this program: it has no state_dict")
    return checkpoint


def read_tensors(file: Path) -> dict[str, Any]:
    """Read what torch has saved, a dictionary, onto the CPU, as data: nothing in it is run.

    Raises:
        UserError: there is none, it is cut off, or it holds anything but tensors and plain values.
    """
    if not file.is_file():
        raise UserError(f"{file}: there is no such checkpoint")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"{file} is cut off, or holds more than tensors and plain values, and was not loaded "
            f"({_reason(error)}){_instead(file)}"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{file} holds no dictionary, but a {type(content).__name__}")
    return content


def steps_done(run: RunDirectory) -> int:
    """Return the optimizer steps behind which a run goes on: those of its last checkpoint, 0 where there is none."""
    file = run.checkpoint("last")
    if not file.exists():
        return 0
    return torch.load(file, map_location="cpu", weights_only=True, mmap=True)["global_step"]  # leaves the weights there


def _reason(error: Exception) -> str:
    """Say why a checkpoint was not read, without torch's advice to read it unsafely."""
    found = re.search(r"(?:Unsupported global: GLOBAL|Unsupported class) (\S+)", str(error))
    if found:
        return f"it names {found[1]}"
    return "it is no file of tensors" if "Weights only load failed" in str(error) else first_line(error)


def _instead(damaged: Path) -> str:
    """Say what a whole best.ckpt beside a damaged last.ckpt is good for."""
    best = damaged.with_name("best.ckpt")
    try:
        epochs = torch.load(best, map_location="meta", weights_only=True)["epoch"] + 1
    except Exception:
        return ""
    return (
        f"; {best}, of epoch {epochs}, is whole: python eval.py run={damaged.parent.parent} weights=best, "
        "or copy it to last.ckpt and the run goes on from that epoch"
    )
