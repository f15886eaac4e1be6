"""Loss and accuracy of an epoch so far, kept so that a training step neither waits for the device nor burdens it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

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

    def add(self, images: int, loss: Tensor, correct: Tensor, penalty: Tensor | None) -> None:
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
