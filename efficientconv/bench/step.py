"""``efficientconv bench step``: train.py's loop beside a bare PyTorch loop, in one process and in turn.

The real loop is Lightning's Trainer with all callbacks of train.py, writing a run directory; one of its epochs is a
round. Between two of these epochs the bare loop takes as many steps, with the same network, loss, optimizer, schedule,
precision and loader, and without bookkeeping.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor
from torch.nn import functional as F

from efficientconv.bench.peak_memory import peak, reset_peak
from efficientconv.bench.rounds import FEWEST_FOR_SPREAD, Rounds, now, quartiles
from efficientconv.datasets import ImageData
from efficientconv.errors import UserError
from efficientconv.layers.base import regularization_loss
from efficientconv.runs.directory import RunDirectory
from efficientconv.training.build import build_callbacks, build_classifier, build_trainer
from efficientconv.training.classifier import Classifier
from efficientconv.training.cuda_graphs import GraphedLoss
from efficientconv.training.optim import ScheduledRate, fuse_on_cpu, parameter_groups
from efficientconv.training.precision import resolve_precision
from efficientconv.training.recorder import Recorder
from efficientconv.training.stopping import StopRequest

REAL, BARE = "train.py's loop", "bare loop"
AUTOCAST = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass
class Steps:
    """The measurements of both loops.

    Args:
        steps: number of optimizer steps in a round.
        rounds: images per second of both loops.
        overheads: microseconds by which a step of the real loop is slower, in each round.
        epoch_ends: milliseconds of the real loop's bookkeeping at the end of an epoch, in each round.
        peaks: peak memory of each loop, in bytes; None where the system does not report it.
    """

    steps: int
    rounds: Rounds
    overheads: list[float] = field(default_factory=list)
    epoch_ends: list[float] = field(default_factory=list)
    peaks: dict[str, int | None] = field(default_factory=dict)

    @property
    def overhead(self) -> float | None:
        """Return the median of the overheads; None where they are too few, or lost in the noise.

        Lost is what is not above zero in the middle half of the rounds.
        """
        if len(self.overheads) < FEWEST_FOR_SPREAD or quartiles(self.overheads)[0] <= 0:
            return None
        return median(self.overheads)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        loops = self.rounds.to_dict()
        return {
            "steps": self.steps,
            "overhead_microseconds": {"median": self.overhead, "rounds": self.overheads},
            "epoch_end_milliseconds": {"median": median(self.epoch_ends), "rounds": self.epoch_ends},
            "loops": {name: figures | {"peak_memory_bytes": self.peaks[name]} for name, figures in loops.items()},
        }


def measure_steps(config: Mapping[str, Any], data: ImageData, *, steps: int, rounds: int) -> Steps:
    """Measure both loops.

    Args:
        config: as for training.
        data: the data set, set up.
        steps: number of optimizer steps in a round, at most an epoch's.
        rounds: number of rounds, after one that does not count.

    Raises:
        UserError: the bare loop does not have this precision.
    """
    settings = _settings(config["trainer"], steps, rounds)
    if settings["precision"] not in AUTOCAST:
        raise UserError(f"trainer.precision={settings['precision']}: bench step knows {', '.join(AUTOCAST)}")
    config = dict(config) | {"trainer": settings}
    classifier, _ = build_classifier(config, data)
    turns = Turns(build_classifier(config, data)[0], data)
    with TemporaryDirectory() as folder, StopRequest() as stop:
        run = RunDirectory(folder)
        callbacks = [turns, *build_callbacks(config, run, stop, Recorder(run))]
        seed_everything(config["seed"], verbose=False)
        build_trainer(config, callbacks, loggers=[]).fit(classifier, datamodule=data)
    return turns.measured


def _settings(trainer: Mapping[str, Any], steps: int, rounds: int) -> dict[str, Any]:
    """Return the trainer's settings without the features that the bare loop lacks."""
    plain = {"devices": 1, "accumulate_grad_batches": 1, "gradient_clip_val": None, "limit_val_batches": 0}
    precision = resolve_precision(trainer["precision"], trainer["accelerator"])
    return dict(trainer) | plain | {"precision": precision, "limit_train_batches": steps, "max_epochs": rounds + 1}


class Turns(Callback):
    """Runs the bare loop before each epoch of the real one, and times both.

    The real loop's time ends where its next epoch begins, or the training ends: it includes saving and writing.

    Args:
        classifier: has the network and the loss of the bare loop.
        data: makes the bare loop's loader.
    """

    def __init__(self, classifier: Classifier, data: ImageData) -> None:
        self.classifier, self.data = classifier, data
        self.step: Callable[[Tensor, Tensor], None] | None = None
        self.loader: Iterable[tuple[Tensor, Tensor]] = ()
        self.measured = Steps(steps=0, rounds=Rounds(BARE))
        self.bare = self.begun = self.stepped = 0.0
        self.images = 0

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Build the bare loop on the trainer's device."""
        device = trainer.strategy.root_device
        self.measured.steps = int(trainer.num_training_batches)
        self.step = bare_step(self.classifier.to(device), trainer.precision, int(trainer.estimated_stepping_batches))
        self.loader = self.data.train_dataloader()

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Close the real loop's last round, take the bare loop's steps, and start the real loop's clock."""
        device = trainer.strategy.root_device
        self._close(trainer)
        reset_peak(device)
        start = now(device)
        self.images = self._bare_steps()
        self.bare = now(device) - start
        self._keep_peak(BARE, device)
        reset_peak(device)
        self.begun = now(device)

    def _bare_steps(self) -> int:
        assert self.step is not None
        count = 0
        for images, labels in islice(self.loader, self.measured.steps):
            self.step(images, labels)
            count += len(labels)
        return count

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Note the time at which the steps ended."""
        self.stepped = now(trainer.strategy.root_device)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Close the last round."""
        self._close(trainer)

    def _close(self, trainer: Trainer) -> None:
        end = now(trainer.strategy.root_device)
        epochs = trainer.current_epoch  # the finished ones
        if epochs < 2:  # the first does not count
            return
        real, measured = end - self.begun, self.measured
        self._keep_peak(REAL, trainer.strategy.root_device)
        measured.rounds.add(REAL, self.images, real)
        measured.rounds.add(BARE, self.images, self.bare)
        measured.overheads.append(1e6 * (real - self.bare) / measured.steps)
        measured.epoch_ends.append(1e3 * (end - self.stepped))

    def _keep_peak(self, loop: str, device: torch.device) -> None:
        most = peak(device)
        self.measured.peaks[loop] = None if most is None else max(most, self.measured.peaks.get(loop) or 0)


def bare_step(classifier: Classifier, precision: str, total_steps: int) -> Callable[[Tensor, Tensor], None]:
    """Return one training step in plain PyTorch, with the classifier's network, loss, optimizer and schedule."""
    model, device = classifier.model.train(), classifier.device
    optimizer = classifier.optimizer(parameter_groups(model, classifier.decay_norm_and_bias))
    fuse_on_cpu(optimizer)
    schedule = ScheduledRate(optimizer, classifier.schedule, total_steps)
    dtype = AUTOCAST[precision]
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "16-mixed")

    def eager_loss(images: Tensor, targets: Tensor) -> Tensor:
        loss = F.cross_entropy(model(images), targets, label_smoothing=classifier.label_smoothing)
        if not classifier.regularization_weight:
            return loss
        with torch.autocast(device.type, enabled=False):
            return loss + classifier.regularization_weight * regularization_loss(model)

    graphed = classifier.loss if isinstance(classifier.loss, GraphedLoss) else None

    def step(images: Tensor, labels: Tensor) -> None:
        images, targets = classifier.mix(images, labels)
        images = images.contiguous(memory_format=classifier.memory_format)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            loss = graphed(images, targets)[0] if graphed is not None else eager_loss(images, targets)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        schedule.step()

    return step
