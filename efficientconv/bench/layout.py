"""The tables of layers and networks: of each task and form the ratio first, the part of the limit, then the time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from rich.console import Group
from rich.text import Text

from efficientconv.bench.contest import COPY, PRODUCT, Contest, name_of
from efficientconv.bench.rounds import FEWEST_FOR_SPREAD, quartiles
from efficientconv.console import figures_table

RESTLESS = 0.1
"""Spread, as a part of the ratio, that half of all contenders exceed only on a machine that does something else."""

TIMED = 1
"""Images at once up to which a time says more than images per second."""

Cell = Callable[[str], str]
"""Maps the name of a convolution to what its row says."""


def table(contests: Sequence[Contest], width: int) -> Group:
    """Lay out the contests of one place side by side, the fastest convolution first.

    Args:
        contests: one for each task.
        width: of the terminal.
    """
    first = contests[0]
    columns: list[tuple[str, Cell]] = [("MACs, M", lambda conv: _millions(first, conv))]
    for contest in contests:
        for form in contest.forms:
            columns += _columns(contest, form)
    convs = sorted(first.convs, key=lambda conv: -_speed(contests, conv))
    rows = [[Text(conv), *(Text(cell(conv)) for _, cell in columns)] for conv in convs]
    title = Text(f"{first.place}{_machine(first)}", style="bold")
    headers = ("conv", *(header for header, _ in columns))
    return Group(title, Text(), figures_table(headers, rows, width), Text())


def _columns(contest: Contest, form: str) -> list[tuple[str, Cell]]:
    """Return the columns of one task in one form with their headers, the ratio's with the name of both."""
    found: list[tuple[str, Cell]] = [
        (f"{contest.task}\n{form}\n× {contest.beside}", lambda conv: ratio_cell(contest.ratios(conv, form)))
    ]
    if contest.of_limit:
        found.append(("of\nlimit", lambda conv: f"{median(contest.of_limit[name_of(conv, form)]):.2f}"))
    if contest.of_limit or contest.images <= TIMED:
        found.append(("ms", lambda conv: _digits(1e3 * contest.seconds(conv, form))))
    else:
        found.append(("images/s", lambda conv: f"{contest.rounds.rate(name_of(conv, form)):,.0f}"))
    if any(contest.peaks.get(name_of(conv, form)) is not None for conv in contest.convs):
        found.append(("MiB\nmore", lambda conv: f"{(contest.peaks[name_of(conv, form)] or 0) / 2**20:,.0f}"))
    return [(header, _where(contest, form, cell)) for header, cell in found]


def _where(contest: Contest, form: str, cell: Cell) -> Cell:
    return lambda conv: cell(conv) if contest.has(conv, form) else ""


def ratio_cell(ratios: Sequence[float]) -> str:
    """Write the median of ratios and half of their interquartile range: ``1.42 ±0.02``; ``1`` for the reference."""
    if set(ratios) == {1.0}:
        return "1"
    if len(ratios) < FEWEST_FOR_SPREAD:
        return f"{median(ratios):.2f}"
    low, high = quartiles(ratios)
    return f"{median(ratios):.2f} ±{(high - low) / 2:.2f}"


def _speed(contests: Sequence[Contest], conv: str) -> float:
    """Return the ratio by which a table is sorted: that of its last form, such as training, or folded inference."""
    pairs = [(contest, form) for contest in contests for form in contest.forms if contest.has(conv, form)]
    contest, form = pairs[-1]
    return contest.ratio(conv, form)


def _millions(contest: Contest, conv: str) -> str:
    name = next(name for form in contest.forms if (name := name_of(conv, form)) in contest.macs)
    return _digits(contest.macs[name] / 1e6)


def _digits(value: float) -> str:
    """Write a number with three significant digits, and all those before the point."""
    decimals = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{decimals}f}"


def _machine(contest: Contest) -> str:
    """Say what the limit was computed of."""
    if not contest.of_limit:
        return ""
    copied, multiplied = (contest.rounds.rate(name) / 1e9 for name in (COPY, PRODUCT))
    return f"; the machine copies {copied:,.1f} GB/s and multiplies {multiplied:,.1f} GMAC/s"


def about(rounds: int, seconds: float) -> str:
    """Say how the figures were found."""
    spread = "; ±: half of the interquartile range" if rounds >= FEWEST_FOR_SPREAD else ""
    return f"medians of {rounds} rounds in alternating order, at least {1e3 * seconds:g} ms each{spread}"


def warning(contests: Sequence[Contest]) -> str | None:
    """Say that the machine was not quiet, where the rounds tell so."""
    spreads = [spread for contest in contests for spread in contest.spreads()]
    if not spreads or median(spreads) <= RESTLESS:
        return None
    return f"the ratios of half of all contenders spread by ±{median(spreads):.0%} and more: measure on a quiet machine"
