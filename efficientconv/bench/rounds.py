"""Measuring several contenders in turn, so that other load on the machine affects all of them alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import NamedTuple

import torch

FEWEST_FOR_SPREAD = 3
"""Rounds below which the middle half of them says nothing."""

LONG = 5
"""Times a round's share: from there on a call needs no other one before it."""


@dataclass
class Rounds:
    """Images per second of each contender, round by round.

    Args:
        reference: name of the contender to compare the others with.
        rates: images per second of each contender, or other units of work, one value for each round.
    """

    reference: str
    rates: dict[str, list[float]] = field(default_factory=dict)

    def add(self, contender: str, images: float, seconds: float) -> None:
        """Add a contender's figures of one round."""
        self.rates.setdefault(contender, []).append(images / seconds)

    def rate(self, contender: str) -> float:
        """Return the median of the rounds, in images per second."""
        return median(self.rates[contender])

    def ratios(self, contender: str, reference: str | None = None) -> list[float]:
        """Return the speed relative to that of ``reference``, by default the one of all, within each round."""
        pairs = zip(self.rates[contender], self.rates[reference or self.reference], strict=True)
        return [rate / of_reference for rate, of_reference in pairs]

    def ratio(self, contender: str) -> float:
        """Return the speed relative to the reference: the median of the ratios within each round."""
        return median(self.ratios(contender))

    def to_dict(self) -> dict[str, dict[str, object]]:
        """Return ratio, median and rounds of each contender, as plain values."""
        return {
            name: {
                "ratio": self.ratio(name),
                "images_per_second": self.rate(name),
                "ratios": self.ratios(name),
                "rounds": rates,
            }
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
    for name in turns(names, rounds):
        measured.add(name, *timed(contenders[name], seconds, device))
    return measured


def turns(names: Sequence[str], rounds: int) -> Iterator[str]:
    """Yield every name once a round, every second round in the opposite order."""
    for i in range(rounds):
        yield from names[:: -1 if i % 2 else 1]


class Work(NamedTuple):
    """Something to call again and again, and how many units, such as images, a call gets done."""

    call: Callable[[], object]
    units: float


def interleave_calls(
    works: Mapping[str, Work], reference: str, rounds: int, seconds: float, device: torch.device
) -> Rounds:
    """Measure calls of each contender in turn, every second round in the opposite order.

    Each has a fixed number of calls a round, found before the first, and one more before its clock starts: there the
    caches become its own, and the threads of the contender before stop waiting for more work. Beside a call that is
    many times as long as the round's share, both take nothing, and there is none.

    Args:
        works: the contenders by name.
        reference: name of the contender to compare the others with.
        rounds: number of rounds.
        seconds: time of a contender's calls in a round, about; at least one call.
        device: synchronised before the clock is read.
    """
    calls = {name: _calls_within(work.call, seconds, device) for name, work in works.items()}
    measured = Rounds(reference, {name: [] for name in works})
    with _old_objects_left_alone():
        for name in turns(list(works), rounds):
            work, (count, each) = works[name], calls[name]
            if each < LONG * seconds:
                work.call()
            start = now(device)
            for _ in range(count):
                work.call()
            measured.add(name, count * work.units, now(device) - start)
    return measured


@contextmanager
def _old_objects_left_alone() -> Iterator[None]:
    """Keep Python's garbage collector from walking through all networks in the middle of somebody's turn."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _calls_within(call: Callable[[], object], seconds: float, device: torch.device) -> tuple[int, float]:
    """Return how many calls take ``seconds``, and the seconds of one.

    One before does not count: there a network may be compiled.
    """
    call()
    count, start = 1, now(device)
    call()
    while (elapsed := now(device) - start) < seconds:
        more = max(1, int(count * (seconds / max(elapsed, 1e-9) - 1)))
        more = min(more, count)  # the first calls may be slow ones
        for _ in range(more):
            call()
        count += more
    return count, elapsed / count


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


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """Return the bounds of the middle half of the values: both are the one value where there is no other."""
    if len(values) == 1:
        return values[0], values[0]
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, high
