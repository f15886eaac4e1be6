"""Measuring several contenders in turn, so that other load on the machine affects all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import torch


@dataclass
class Rounds:
    """Images per second of each contender, round by round.

    Args:
        reference: name of the contender to compare the others with.
        rates: images per second of each contender, one value for each round.
    """

    reference: str
    rates: dict[str, list[float]] = field(default_factory=dict)

    def add(self, contender: str, images: float, seconds: float) -> None:
        """Add a contender's figures of one round."""
        self.rates.setdefault(contender, []).append(images / seconds)

    def rate(self, contender: str) -> float:
        """Return the median of the rounds, in images per second."""
        return median(self.rates[contender])

    def ratio(self, contender: str) -> float:
        """Return the speed relative to the reference: the median of the ratios within each round."""
        pairs = zip(self.rates[contender], self.rates[self.reference], strict=True)
        return median(rate / reference for rate, reference in pairs)

    def to_dict(self) -> dict[str, dict[str, object]]:
        """Return ratio, median and rounds of each contender, as plain values."""
        return {
            name: {"ratio": self.ratio(name), "images_per_second": self.rate(name), "rounds": rates}
            for name, rates in self.rates.items()
        }


def interleave(
    contenders: Mapping[str, Callable[[], int]], reference: str, rounds: int, seconds: float, device: torch.device
) -> Rounds:
    """Measure whole passes of each contender in turn, every second round in the opposite order.

    Args:
        contenders: functions that make one pass and return its number of images, by name.
        reference: name of the contender to compare the others with.
        rounds: number of rounds; before the first, each contender makes one pass that does not count.
        seconds: shortest time of a contender's passes in a round.
        device: synchronised before the clock is read.
    """
    names = list(contenders)
    for name in names:
        contenders[name]()
    measured = Rounds(reference, {name: [] for name in names})
    for i in range(rounds):
        for name in names[:: -1 if i % 2 else 1]:
            measured.add(name, *timed(contenders[name], seconds, device))
    return measured


def timed(run: Callable[[], int], seconds: float, device: torch.device) -> tuple[int, float]:
    """Repeat a pass until ``seconds`` are over; return the number of images and the time in seconds."""
    images = 0
    start = now(device)
    while (elapsed := now(device) - start) < seconds or not images:
        images += run()
    return images, elapsed


def now(device: torch.device) -> float:
    """Read the clock in seconds, after the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def spread(values: Sequence[float]) -> str:
    """Write the smallest and the largest of several rates: ``1,200 to 1,350``."""
    return f"{min(values):,.0f} to {max(values):,.0f}"
