"""How far an epoch is: its loss and accuracy so far, read seldom, for the loggers and whoever watches.

A training step neither waits for the device nor burdens it: it leaves a few numbers there (`StepSums`), and one place
(`Monitor`) reads them all at once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from efficientconv.console import has_terminal
from efficientconv.errors import UserError
from efficientconv.training.progress_line import LogLines, ProgressLine

if TYPE_CHECKING:
    from efficientconv.training.classifier import Classifier

CHUNK = 128  # steps whose numbers are put together on the device, so that they do not fill it one by one


class TrainSums(NamedTuple):
    """Sums over the training steps of an epoch so far."""

    steps: float = 0.0
    images: float = 0.0
    loss: float = 0.0  # cross-entropy × images
    correct: float = 0.0  # images whose likeliest class is the label
    penalty: float = 0.0  # weighted regularisation loss × steps
    finite_steps: float = 0.0  # steps before the first loss that was not a number

    def plus(self, images: int, loss: float, correct: float, penalty: float) -> TrainSums:
        """Return these sums with one more step."""
        finite = self.finite_steps == self.steps and math.isfinite(loss + penalty)
        return TrainSums(
            self.steps + 1,
            self.images + images,
            self.loss + loss * images,
            self.correct + correct,
            self.penalty + penalty,
            self.finite_steps + finite,
        )

    @classmethod
    def over(cls, ranks: Sequence[TrainSums]) -> TrainSums:
        """Combine those of all ranks, which take their steps together."""
        steps, images, loss, correct, penalty, finite_steps = zip(*ranks, strict=True)
        return cls(steps[0], sum(images), sum(loss), sum(correct), sum(penalty) / len(ranks), min(finite_steps))


class StepSums:
    """Collects each step's numbers on the device, and adds them up when somebody wants to know."""

    def __init__(self) -> None:
        self.start()

    def start(self, sums: TrainSums | None = None) -> None:
        """Begin with an epoch's first step, or behind those that ``sums`` counts."""
        self._sums = sums or TrainSums()
        self._images: list[int] = []
        self._chunks: list[Tensor] = []
        self._steps: list[tuple[Tensor, ...]] = []

    def add(self, images: int, loss: Tensor, correct: Tensor, penalty: Tensor | None = None) -> None:
        """Take note of a step.

        Args:
            images: in the batch.
            loss: their mean cross-entropy, a scalar.
            correct: how many were right, a scalar.
            penalty: the weighted regularisation loss, a scalar; ``None`` is 0, in all steps or none.
        """
        self._images.append(images)
        self._steps.append((loss, correct) if penalty is None else (loss, correct, penalty))
        if len(self._steps) == CHUNK:
            self._put_together()

    def _put_together(self) -> None:
        self._chunks.append(torch.stack([torch.stack(column).float() for column in zip(*self._steps, strict=True)]))
        self._steps.clear()

    def read(self) -> TrainSums:
        """Return the sums: one transfer, which waits for the device."""
        if self._steps:
            self._put_together()
        for images, (loss, correct, *penalty) in zip(self._images, self._rows(), strict=True):
            self._sums = self._sums.plus(images, loss, correct, sum(penalty))
        self.start(self._sums)
        return self._sums

    def _rows(self) -> Iterator[list[float]]:
        return iter(torch.cat(self._chunks, dim=1).T.tolist() if self._chunks else [])


def require_finite(trainer: Trainer) -> TrainSums:
    """Read the sums of the epoch so far over all ranks, which must call this together.

    Raises:
        UserError: the loss has been infinite or not a number, and since which step.
    """
    sums = cast("Classifier", trainer.lightning_module).read_sums()
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
        show: say how far training is: a progress line on a terminal, elsewhere a line in the log every minute.
    """

    def __init__(self, every_n_steps: int, show: bool = True) -> None:
        self.every_n_steps = every_n_steps
        self.line = (ProgressLine() if has_terminal() else LogLines()) if show else None
        self.seen = TrainSums()
        self.step = 0
        self.shown_at = time.monotonic()

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Begin to show where training begins or goes on."""
        if self.line is not None:
            self.line.start(trainer, cast("Classifier", module).sums.read())

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Forget what the last epoch's sums were."""
        self.seen = TrainSums()

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        """Log every so many steps, and show every so many seconds."""
        step, before = trainer.global_step, self.step
        self.step = step
        if step != before and step % self.every_n_steps == 0:  # it stays while gradients are accumulated
            self._log(trainer, require_finite(trainer))
        if self.line is not None and time.monotonic() - self.shown_at > self.line.every_seconds:
            self.shown_at = time.monotonic()
            self.line.update(trainer, cast("Classifier", module).sums.read())

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
