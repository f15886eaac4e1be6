"""What a run leaves behind after each epoch: a row of metrics.csv, and the figures of summary.json."""

from __future__ import annotations

import logging
import resource
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from efficientconv.console import has_terminal
from efficientconv.runs.directory import RunDirectory
from efficientconv.training.progress import TrainSums, require_finite
from efficientconv.training.progress_line import Pace
from efficientconv.training.provenance import device_name

log = logging.getLogger(__name__)


class Recorder(Callback):
    """Writes a row for each epoch, and adds up images and seconds over restarts.

    Args:
        run: where to write.
    """

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.device = torch.device("cpu")
        self.epochs = 0
        self.images = 0.0
        self.train_seconds = 0.0
        self.wall_before = 0.0
        self.started = time.monotonic()
        self.epoch_started = self.epoch_ended = 0.0
        self.epoch_seconds_before = 0.0
        self.rate = 0.0
        self.evaluated: dict[str, float] = {}
        self.best: dict[str, float] = {}
        self.last: dict[str, float] = {}

    @property
    def wall_seconds(self) -> float:
        """Return the seconds since the run began, without those between a stop and a restart."""
        return self.wall_before + time.monotonic() - self.started

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Name the device in use, and measure its memory from here on: of a sweep's jobs each has its own peak."""
        if stage != "fit":
            return
        self.device = trainer.strategy.root_device
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self.run.update_summary(device=device_name(self.device), devices=trainer.world_size)

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Drop the rows that a run killed after its last checkpoint had written, and write again from there."""
        self.run.cut_metrics(self.epochs)
        self.epoch_started, self.pace = time.monotonic(), Pace(trainer)

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Start the epoch's clock."""
        self.epoch_started, self.epoch_seconds_before = time.monotonic(), 0.0
        self.evaluated = {}

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        """Keep the learning rate of the step: at the end of the epoch it is the next one's."""
        self.rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Stop the epoch's clock: images/s are those of training (reading the sums waits for the device)."""
        require_finite(trainer)
        self.epoch_ended = time.monotonic()

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Keep what this epoch's validation found; Lightning would still show it in epochs that have none."""
        found = trainer.callback_metrics
        self.evaluated = {name.removeprefix("val/"): float(found[name]) for name in found if name.startswith("val/")}

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Write the epoch's row and what the summary says of it."""
        sums = require_finite(trainer)
        seconds = self._epoch_seconds()
        self.epochs = trainer.current_epoch + 1
        self.images += sums.images
        self.train_seconds += seconds
        if self.evaluated:
            self.last = self.evaluated | {"epoch": self.epochs}
            self.best = max(self.best or self.last, self.last, key=lambda figures: figures["top1"])
        row = self._row(trainer, sums, seconds)
        self.run.append_metrics(row)
        self.run.update_summary(**self.figures())
        for logger in trainer.loggers:
            logger.log_metrics({k: v for k, v in row.items() if v is not None}, step=trainer.global_step)
        if not has_terminal():  # where the progress line is off
            left = self.pace.time_left(trainer)
            log.info("epoch %d/%s: %s%s", self.epochs, trainer.max_epochs, _in_words(row), left)

    def _epoch_seconds(self) -> float:
        end = self.epoch_ended if self.epoch_ended > self.epoch_started else time.monotonic()
        return self.epoch_seconds_before + end - self.epoch_started

    def _row(self, trainer: Trainer, sums: TrainSums, seconds: float) -> dict[str, Any]:
        return {
            "epoch": self.epochs,
            "step": trainer.global_step,
            "lr": self.rate,
            "train/loss": sums.loss / sums.images,
            "train/top1": sums.correct / sums.images,
            "train/penalty": sums.penalty / sums.steps,
            **{f"val/{name}": self.evaluated.get(name) for name in ("loss", "top1", "top5")},
            "images_per_second": round(sums.images / seconds, 1),
        }

    @property
    def is_best(self) -> bool:
        """Tell whether the last epoch that was evaluated is the best one, and was this one."""
        return bool(self.best) and self.best["epoch"] == self.epochs

    def figures(self) -> dict[str, Any]:
        """Return what the summary says so far: accuracies as fractions of 1, times in seconds, memory in bytes."""
        return {
            "epochs": self.epochs,
            "best": self.best,
            "last": self.last,
            "train_images": int(self.images),
            "train_seconds": round(self.train_seconds, 3),
            "images_per_second": round(self.images / self.train_seconds, 1) if self.train_seconds else None,
            "wall_seconds": round(self.wall_seconds, 3),
            "peak_memory_bytes": peak_memory(self.device),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return everything that adds up over a restart, within an epoch too."""
        return {
            "epochs": self.epochs,
            "images": self.images,
            "train_seconds": self.train_seconds,
            "epoch_seconds": self.epoch_seconds_before + time.monotonic() - self.epoch_started,
            "wall_seconds": self.wall_seconds,
            "best": self.best,
            "last": self.last,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.epochs, self.images, self.train_seconds = state["epochs"], state["images"], state["train_seconds"]
        self.epoch_seconds_before = state["epoch_seconds"]
        self.wall_before = state["wall_seconds"]
        self.best, self.last = state["best"], state["last"]


def _in_words(row: Mapping[str, Any]) -> str:
    words = [f"loss {row['train/loss']:.3f}", f"top-1 {row['train/top1']:.2%}"]
    if row["val/top1"] is not None:
        words.append(f"evaluated: loss {row['val/loss']:.3f}, top-1 {row['val/top1']:.2%}")
    return ", ".join([*words, f"{row['images_per_second']:,.0f} images/s"])


def peak_memory(device: torch.device) -> int:
    """Return the most memory used so far, in bytes: of a CUDA device since the run began, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
