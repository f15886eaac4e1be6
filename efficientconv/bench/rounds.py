"""Measuring several ways of doing the same in turn, so that what else the machine does meets all of them."""

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
        reference: the contender that the others are compared with.
        rates: of each contender, one for each round.
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
        """Return how many times faster than the reference: the median of the ratios within each round."""
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
        contenders: by name, a pass, which returns the number of images it took.
        reference: the name of the one to compare with.
        rounds: how many; before the first, each contender makes one pass that does not count.
        seconds: in each round a contender makes passes until this time is over.
        device: whose work is waited for before the clock is read.
    """
    names = list(contenders)
    for name in names:
        contenders[name]()
    found = Rounds(reference, {name: [] for name in names})
    for i in range(rounds):
        for name in names[:: -1 if i % 2 else 1]:
            found.add(name, *timed(contenders[name], seconds, device))
    return found


def timed(run: Callable[[], int], seconds: float, device: torch.device) -> tuple[int, float]:
    """Repeat a pass until ``seconds`` are over; return how many images that were, in how many seconds."""
    images = 0
    start = now(device)
    while (elapsed := now(device) - start) < seconds or not images:
        images += run()
    return images, elapsed


def now(device: torch.device) -> float:
    """Read the clock in seconds, once the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def spread(values: Sequence[float]) -> str:
    """Write the smallest and the largest, of images per second."""
    return f"{min(values):,.0f} to {max(values):,.0f}"
