"""What a report says of each row, in words of its figures' usual precision, and what holds of all rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import NamedTuple

from efficientconv.report.configurations import Key
from efficientconv.report.table import Report, Row

MINUS = "−"
WHERE = {"last": "after the last epoch", "best": "of the best epoch", "test": "on the test set, after the last epoch"}


class Cell(NamedTuple):
    """What a cell says; ``rank`` is 1 for the best accuracy of its block and 2 for the second."""

    text: str
    rank: int | None = None


def grid(report: Report) -> tuple[list[str], list[list[Cell]]]:
    """Return headers and, for each row, a cell for each of them; columns in which no row has anything are left out."""
    columns: dict[str, Callable[[Row], Cell]] = {
        "top-1, %": lambda row: Cell(accuracy(row), row.rank),
        "n": lambda row: Cell(str(len(row.top1))),
        f"vs {report.baseline}": lambda row: Cell(difference(row)),
        "95% interval": lambda row: Cell(interval(row)),
        "p": lambda row: Cell(p_value(row.p)),
        "params, M": lambda row: Cell(millions(row.params)),
        "MACs, M": lambda row: Cell(millions(row.macs)),
        "images/s": lambda row: Cell(rounded(row.images_per_second)),
        **{f"ms, {form}": partial(_latency, form) for form in report.forms},
    }
    cells = {header: list(map(cell, report.rows)) for header, cell in columns.items()}
    filled = {header: column for header, column in cells.items() if any(cell.text for cell in column)}
    options = [[Cell(row.configuration.options[key]) for row in report.rows] for key in report.columns]
    return [*report.columns, *filled], [list(row) for row in zip(*options, *filled.values(), strict=True)]


def _latency(form: str, row: Row) -> Cell:
    return Cell(rounded(row.latencies.get(form)))


def accuracy(row: Row) -> str:
    """Return mean and standard deviation; the mean alone with one seed."""
    return f"{row.mean:.2f}" if row.std is None else f"{row.mean:.2f} ± {row.std:.2f}"


def difference(row: Row) -> str:
    """Return the difference to the baseline, in percentage points."""
    if row.is_baseline:
        return "baseline"
    return signed(row.comparison.difference) if row.comparison else ""


def interval(row: Row) -> str:
    """Return the confidence interval of the difference."""
    found = row.comparison
    return f"[{signed(found.low)}, {signed(found.high)}]" if found and None not in (found.low, found.high) else ""


def signed(value: float | None) -> str:
    """Print a difference with its sign; zero, as printed, has none."""
    text = f"{value:+.2f}"
    return (text[1:] if float(text) == 0 else text).replace("-", MINUS)


def p_value(p: float | None) -> str:
    """Print a p-value with the digits that mean something."""
    if p is None:
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def millions(count: int | None) -> str:
    """Print a count in millions, with three significant digits."""
    return "" if count is None else rounded(count / 1e6)


def rounded(value: float | None) -> str:
    """Print a number with three significant digits, and all those before the point."""
    if value is None:
        return ""
    digits = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:,.{max(0, digits)}f}"


def notes(report: Report) -> list[str]:
    """Say what the figures are, and what has to be known to read them."""
    return [
        *_about_accuracies(report),
        *_about_comparisons(report),
        *_about_settings(report),
        *_about_runs(report),
        *report.about_latency,
        *report.left_out,
    ]


def _about_accuracies(report: Report) -> Iterator[str]:
    where = sorted({str(run.summary.get("evaluated_on")) for row in report.rows for run in row.configuration.runs})
    on = "" if report.metric == "test" else f", on {' or '.join(where)} images"
    single = sum(row.std is None for row in report.rows)
    several = " (mean ± standard deviation over n seeds)" if single < len(report.rows) else ""
    yield f"top-1 accuracy {WHERE[report.metric]}{on}{several}."
    if report.metric == "best" and "test" in where:
        yield "The best epoch was chosen on the test set itself (data.val_split=0): these accuracies are optimistic."
    if single:
        rows = "All rows have" if single == len(report.rows) else f"{_rows(single)} {'has' if single == 1 else 'have'}"
        yield f"{rows} one seed only: no standard deviation, no test."


def _about_comparisons(report: Report) -> Iterator[str]:
    if report.baseline is None:
        yield "Nothing is compared: no row is the baseline; baseline=<conv or model> names one."
        return
    tested = sum(row.p is not None for row in report.rows)
    yield f"vs {report.baseline}: mean difference over common seeds, in percentage points."
    if tested:
        corrected = f", corrected for {tested} comparisons by Holm's method" if tested > 1 else ""
        yield f"95% interval: of each difference alone, Student's t. p: paired t-test{corrected}."
    lacking = [row for row in report.rows if not row.is_baseline and row.comparison is None]
    if lacking:
        yield f"{_rows(len(lacking))} without a comparable baseline, or without a seed in common with it."


def _about_settings(report: Report) -> Iterator[str]:
    if len(report.settings) < 2:
        return
    yield f"{len(report.settings)} settings are not comparable, and neither averaged nor compared with one another:"
    rows = Counter(map(report.number, report.rows))
    for number, setting in enumerate(report.settings, 1):
        yield f"setting {number}: {setting_in_words(setting, report.differing)} ({_rows(rows[number])})"


def setting_in_words(setting: Key, keys: Collection[str]) -> str:
    """Name data, recipe and epochs, and whatever else differs from another setting: its values of ``keys``."""
    values = dict(setting)
    found = [f"data={values['data']}", f"recipe={values['recipe']}", f"{values.get('trainer.max_epochs')} epochs"]
    differing = [key for key in values if key in keys]
    usual = {"data", "recipe", "trainer.max_epochs"}
    explained = {group for group in ("data", "recipe") if group in differing}
    more = [key for key in differing if key not in usual and key.partition(".")[0] not in explained]
    return ", ".join([*found, *(f"{key}={values[key]}" for key in more)])


def _about_runs(report: Report) -> Iterator[str]:
    for row in report.rows:
        mixed = row.configuration.mixed
        if mixed:
            words = ", ".join(f"{key}={' or '.join(values)}" for key, values in list(mixed.items())[:4])
            yield f"{row.configuration.name}: averaged over {words}{', …' if len(mixed) > 4 else ''}."
    repeated = sum(len(row.configuration.runs) > len(row.top1) for row in report.rows if not row.configuration.mixed)
    if repeated:
        yield f"{_rows(repeated)} with several runs of one seed: their mean counts as one."
    runs = [run for row in report.rows for run in row.configuration.runs]
    commits = sorted({str(run.summary.get("commit"))[:12] for run in runs})
    if len(commits) > 1:
        yield f"The runs are of {len(commits)} commits of the code: {', '.join(commits)}."
    for key in dict.fromkeys(key for run in runs for key in run.kernels):
        values = sorted({run.kernels[key] for run in runs if key in run.kernels})
        if len(values) > 1:
            yield f"The runs are not all of one {key}: {', '.join(values)}."


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"
