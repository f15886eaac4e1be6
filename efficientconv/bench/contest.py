"""What is measured in the same rounds: convolutions in several forms, for one task, at one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from statistics import median
from typing import Any

from efficientconv.bench.rounds import Rounds, quartiles
from efficientconv.bench.words import REFERENCE

COPY, PRODUCT = "copy", "matrix product"
"""The machine's own contenders, where the limit is measured too."""

UNITS = {COPY: "bytes_per_second", PRODUCT: "macs_per_second"}


def name_of(conv: str, form: str) -> str:
    """Return what a convolution in a form is called among the contenders."""
    return f"{conv} {form}"


@dataclass
class Contest:
    """The measurements of all convolutions for one task.

    Attributes:
        place: where they are: a geometry, or a network; contests that share it are one table.
        task: ``forward``, ``training``, …
        beside: what the reference is, in words.
        forms: in which they take part, such as ``eager`` and ``folded``.
        convs: those that take part, ``REFERENCE`` among them.
        images: how many a call works on.
        rounds: images per second of each contender.
        of_limit: the machine's limit over the time of each contender, round by round; empty where it is not known.
        macs: multiply-adds for one image of each contender, forward.
        peaks: what each convolution adds to the memory in use at its peak, in bytes.
    """

    place: str
    task: str
    beside: str
    forms: tuple[str, ...]
    convs: tuple[str, ...]
    images: int
    rounds: Rounds
    of_limit: dict[str, list[float]] = field(default_factory=dict)
    macs: dict[str, int] = field(default_factory=dict)
    peaks: dict[str, int | None] = field(default_factory=dict)

    def has(self, conv: str, form: str) -> bool:
        """Tell whether a convolution takes part in a form."""
        return name_of(conv, form) in self.rounds.rates

    def ratios(self, conv: str, form: str) -> list[float]:
        """Return the speed relative to the reference in the same form, round by round."""
        return self.rounds.ratios(name_of(conv, form), name_of(REFERENCE, form))

    def ratio(self, conv: str, form: str) -> float:
        """Return the median of ``ratios``."""
        return median(self.ratios(conv, form))

    def spreads(self) -> list[float]:
        """Return half of the interquartile range of each contender's ratios, as a part of the median."""
        found = []
        for conv, form in product(self.convs, self.forms):
            if conv != REFERENCE and self.has(conv, form):
                ratios = self.ratios(conv, form)
                low, high = quartiles(ratios)
                found.append((high - low) / 2 / median(ratios))
        return found

    def seconds(self, conv: str, form: str) -> float:
        """Return the time of a call, the median of the rounds."""
        return self.images / self.rounds.rate(name_of(conv, form))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        pairs = [(conv, form) for conv in self.convs for form in self.forms if self.has(conv, form)]
        return {
            "place": self.place,
            "task": self.task,
            "images": self.images,
            "contenders": {name_of(*pair): self._figures(*pair) for pair in pairs},
            "machine": {unit: self.rounds.rates[name] for name, unit in UNITS.items() if name in self.rounds.rates},
        }

    def _figures(self, conv: str, form: str) -> dict[str, Any]:
        name = name_of(conv, form)
        ratios = self.ratios(conv, form)
        found: Mapping[str, Any] = {
            "conv": conv,
            "form": form,
            "macs": self.macs.get(name),
            "ratio": median(ratios),
            "ratio_quartiles": quartiles(ratios),
            "seconds": self.seconds(conv, form),
            "of_limit": median(self.of_limit[name]) if name in self.of_limit else None,
            "images_per_second": self.rounds.rate(name),
            "ratios": ratios,
            "rounds": self.rounds.rates[name],
            "peak_memory_bytes": self.peaks.get(name),
        }
        return {key: value for key, value in found.items() if value is not None}
