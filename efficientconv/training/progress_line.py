"""What whoever watches a training sees of it: one line on a terminal, or a line in the log every minute."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from lightning.pytorch import Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from efficientconv.console import in_words
from efficientconv.training.optim import ScheduledRate

if TYPE_CHECKING:
    from efficientconv.training.progress import TrainSums

log = logging.getLogger(__name__)


class Pace:
    """How long a training takes: as long as since it began or went on, for as much of it as was done in that time."""

    def __init__(self, trainer: Trainer) -> None:
        self.at, self.done = time.monotonic(), fraction_done(trainer)

    def time_left(self, trainer: Trainer) -> str:
        """Say how long the rest will take, as ``, 2 h 05 min left``; nothing where there is no rest."""
        done = fraction_done(trainer)
        if done in (self.done, 1.0):
            return ""
        return f", {in_words((time.monotonic() - self.at) * (1 - done) / (done - self.done))} left"


def fraction_done(trainer: Trainer) -> float:
    """Return how much of the training is done, from 0 to 1: the schedule's place, on any number of devices."""
    return cast(ScheduledRate, trainer.lr_scheduler_configs[0].scheduler).fraction_done


class Running:
    """The figures of an epoch that is under way: this rank's loss and accuracy, and all ranks' images/s of late."""

    def __init__(self, sums: TrainSums) -> None:
        self.images, self.at = sums.images, time.monotonic()

    def text(self, trainer: Trainer, sums: TrainSums) -> str:
        """Write them, on one line."""
        now = time.monotonic()
        images = sums.images - self.images if sums.images >= self.images else sums.images  # a new epoch
        rate = trainer.world_size * images / (now - self.at)
        self.images, self.at = sums.images, now
        loss, top1 = sums.loss / sums.images, sums.correct / sums.images
        return f"loss {loss:.3f}, top-1 {top1:.2%}, {rate:,.0f} images/s"


class LogLines:
    """Where nobody sits in front of a terminal: a line in the log every minute, within an epoch too."""

    every_seconds = 60.0

    def start(self, trainer: Trainer, sums: TrainSums) -> None:
        """Start the clock."""
        self.pace, self.running = Pace(trainer), Running(sums)

    def update(self, trainer: Trainer, sums: TrainSums) -> None:
        """Log where training is, the epoch's running figures, and the time left."""
        log.info(
            "epoch %d/%s, batch %d/%s: %s%s",
            trainer.current_epoch + 1,
            trainer.max_epochs,
            trainer.fit_loop.batch_idx + 1,
            trainer.num_training_batches,
            self.running.text(trainer, sums),
            self.pace.time_left(trainer),
        )

    def stop(self) -> None:
        """Leave everything as it is."""


class ProgressLine:
    """One line on a terminal: epoch, a bar for the whole training, images/s, loss, top-1, time left."""

    every_seconds = 0.5

    def __init__(self) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:.1f}%"),
            TextColumn("{task.fields[text]}"),
            console=Console(stderr=True),
            refresh_per_second=2,
            transient=True,
        )
        self.task = self.progress.add_task("epoch", total=1.0, text="")

    def start(self, trainer: Trainer, sums: TrainSums) -> None:
        """Show the line."""
        self.pace, self.running = Pace(trainer), Running(sums)
        self.progress.update(self.task, completed=fraction_done(trainer))
        self.progress.start()

    def update(self, trainer: Trainer, sums: TrainSums) -> None:
        """Move the line to the present step."""
        epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        text = self.running.text(trainer, sums) + self.pace.time_left(trainer)
        self.progress.update(self.task, description=epoch, completed=fraction_done(trainer), text=text)

    def stop(self) -> None:
        """Take the line away."""
        with suppress(OSError):  # a terminal that was closed
            self.progress.stop()
