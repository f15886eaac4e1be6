"""A published figure: the digits as printed, and whether an exact number agrees with them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction

UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "%": 1, "ms": 1}

_NUMBER = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True)
class Figure:
    """One printed number.

    Attributes:
        text: the digits as printed, such as ``0.70``; their number gives the precision.
        unit: a key of :data:`UNITS`.
        truncated: whether the digits behind the last one were cut off instead of rounded.
    """

    text: str
    unit: str
    truncated: bool = False

    def __post_init__(self) -> None:
        if not _NUMBER.fullmatch(self.text):
            raise ValueError(f"{self.text!r} is not a number: must be digits with at most one point, as in 25.56")

    @property
    def value(self) -> int | float:
        """The number without its unit's factor: 0.28 M is 280000; an int where it is whole."""
        exact = Fraction(self.text) * UNITS[self.unit]
        return int(exact) if exact.denominator == 1 else float(exact)

    def agrees(self, exact: Fraction | int) -> bool:
        """Tell whether ``exact``, a number without a unit, has the same digits when printed like this figure."""
        return self.like(exact) == self.text

    def like(self, exact: Fraction | int) -> str:
        """Print ``exact`` with this figure's unit, number of digits and way of rounding (half up, or cut off)."""
        return printed(exact, self.unit, len(self.text.partition(".")[2]), self.truncated)

    def __str__(self) -> str:
        return with_unit(self.text, self.unit)


def printed(exact: Fraction | int, unit: str, places: int, truncated: bool = False) -> str:
    """Print a number in ``unit`` with ``places`` digits behind the point."""
    scaled = Fraction(exact) / UNITS[unit] * 10**places
    whole = math.floor(abs(scaled) + (0 if truncated else Fraction(1, 2)))
    digits = str(whole).rjust(places + 1, "0")
    sign = "-" if scaled < 0 and whole else ""
    return sign + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)


def with_unit(text: str, unit: str) -> str:
    """Put the unit behind a number: ``25.56 M``, ``76.01%``."""
    return f"{text}%" if unit == "%" else f"{text} {unit}".rstrip()
