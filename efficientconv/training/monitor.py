"""The one place that looks at a running epoch: refuses a loss that is no number, feeds the loggers, moves the bar."""

from __future__ import annotations

import sys
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from efficientconv.errors import UserError
from efficientconv.training.classifier import Classifier
from efficientconv.training.sums import TrainSums

REFRESH_SECONDS = 0.5


def require_finite(trainer: Trainer) -> TrainSums:
    """Read the sums of the epoch so far over all ranks, which must call this together.

    Raises:
        UserError: the loss has been infinite or not a number, and since which step.
    """
    module = trainer.lightning_module
    assert isinstance(module, Classifier)
    sums = module.read_sums()
    if sums.finite_steps < sums.steps:
        in_epoch = int(sums.finite_steps) + 1
        raise UserError(
            f"the loss is not a finite number at step {in_epoch} of epoch {trainer.current_epoch + 1}; "
            "the last good checkpoint is kept. "
            "A lower recipe.optimizer.lr, a warm-up or trainer.gradient_clip_val may help"
        )
    return sums


class Monitor(Callback):
    """Reads the running epoch's sums seldom, and passes them on.

    Args:
        every_n_steps: optimizer steps from one reading for the loggers to the next.
        bar: show a progress line; ``None`` shows it on a terminal only.
    """

    def __init__(self, every_n_steps: int, bar: bool | None = None) -> None:
        self.every_n_steps = every_n_steps
        self.line = ProgressLine() if (sys.stderr.isatty() if bar is None else bar) else None
        self.seen = TrainSums()
        self.step = 0
        self.shown_at = 0.0

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Open the progress line where training begins or goes on."""
        if self.line is not None:
            self.line.start(int(trainer.estimated_stepping_batches), trainer.global_step)

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Forget what the last epoch's sums were."""
        self.seen = TrainSums()

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        """Log every so many steps, move the bar every half second."""
        step, before = trainer.global_step, self.step
        self.step = step
        if step != before and step % self.every_n_steps == 0:  # it stays while gradients are accumulated
            self._log(trainer, require_finite(trainer))
        if self.line is not None and time.monotonic() - self.shown_at > REFRESH_SECONDS:
            self.shown_at = time.monotonic()
            self.line.update(trainer, module)

    def _log(self, trainer: Trainer, sums: TrainSums) -> None:
        new = TrainSums(*(now - before for now, before in zip(sums, self.seen, strict=True)))
        self.seen = sums
        if not new.images:
            return
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        metrics = {"step/loss": new.loss / new.images, "step/top1": new.correct / new.images, "step/lr": rate}
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.global_step)

    def on_train_end(self, *args: Any) -> None:
        """Close the line."""
        self._close()

    def on_exception(self, *args: Any) -> None:
        """Close the line, so that the message stands on its own."""
        self._close()

    def _close(self) -> None:
        if self.line is not None:
            self.line.stop()


class ProgressLine:
    """One line on a terminal: epoch, step, images/s, loss, top-1, time left."""

    def __init__(self) -> None:
        from rich.console import Console

        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.completed}/{task.total} steps"),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            refresh_per_second=2,
            transient=True,
        )
        self.task = self.progress.add_task("epoch", total=None, text="")
        self.images, self.at = 0.0, time.monotonic()

    def start(self, total: int, completed: int) -> None:
        """Show the line."""
        self.progress.update(self.task, total=total, completed=completed)
        self.progress.start()

    def update(self, trainer: Trainer, module: LightningModule) -> None:
        """Move the line to the present step and show the epoch's running loss and accuracy, those of this rank."""
        assert isinstance(module, Classifier)
        sums, now = module.sums.read(), time.monotonic()
        images = sums.images - self.images if sums.images >= self.images else sums.images
        rate = trainer.world_size * images / (now - self.at)
        self.images, self.at = sums.images, now
        loss, top1 = sums.loss / sums.images, sums.correct / sums.images
        text = f"{rate:,.0f} images/s  loss {loss:.3f}  top-1 {top1:.2%}"
        epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        self.progress.update(self.task, description=epoch, completed=trainer.global_step, text=text)

    def stop(self) -> None:
        """Take the line away."""
        self.progress.stop()
