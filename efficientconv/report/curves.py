"""Learning curves: each configuration's accuracy by epoch, over its seeds."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from efficientconv.report.configurations import Configuration
from efficientconv.report.runs import Run

COLUMN = "val/top1"


@dataclass(frozen=True)
class Point:
    """Accuracy after one epoch, in per cent.

    Attributes:
        epoch: from 1.
        mean: over the runs that were evaluated then.
        low: mean - standard deviation; the mean where there is one run.
        high: mean + standard deviation.
    """

    epoch: int
    mean: float
    low: float
    high: float


def curve(configuration: Configuration) -> list[Point]:
    """Return mean and spread over a configuration's runs for each epoch after which any was evaluated."""
    values: dict[int, list[float]] = defaultdict(list)
    for run in configuration.runs:
        for epoch, accuracy in _evaluated(run).items():
            values[epoch].append(accuracy)
    return [_point(epoch, of) for epoch, of in sorted(values.items())]


def _point(epoch: int, values: list[float]) -> Point:
    mean = float(np.mean(values))
    std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return Point(epoch, mean, mean - std, mean + std)


def _evaluated(run: Run) -> dict[int, float]:
    """Read a run's accuracies in per cent by epoch; none where metrics.csv is missing or is not a run's."""
    try:
        with (run.directory / "metrics.csv").open(newline="") as file:
            names, *rows = csv.reader(file)
        epoch, top1 = names.index("epoch"), names.index(COLUMN)
        return {int(row[epoch]): 100 * float(row[top1]) for row in rows if row[top1]}
    except (OSError, ValueError, IndexError):
        return {}
