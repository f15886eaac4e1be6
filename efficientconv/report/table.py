"""The report itself: a row for each configuration, with accuracies over seeds, costs, and the baseline's distance."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from efficientconv.errors import UserError, nearest_first
from efficientconv.report.comparison import Comparison, compare, holm
from efficientconv.report.configurations import Configuration, Key, configurations
from efficientconv.report.runs import Run

METRICS = ("last", "best", "test")
USUAL_BASELINE = "standard"
_COMPARED = ("conv", "model")
"""Groups of which an option can be the baseline: runs that differ in any other are not comparable."""


@dataclass(frozen=True)
class Row:
    """One configuration and its figures.

    Attributes:
        configuration: what it is.
        top1: accuracy in per cent by seed; of several runs with one seed, their mean.
        is_baseline: whether others are compared with it.
        comparison: with the baseline; None where there is none, or no common seed.
        p: the comparison's, corrected for all of the report.
        block: a number that rows share which are meant to be compared: those of one setting that have, or would have,
            one baseline.
        rank: 1 for the best mean of its block, 2 for the second; None for others, and where there is no other row.
        latencies: milliseconds by form, where a bench measured the network.
    """

    configuration: Configuration
    top1: dict[int, float]
    block: int = 0
    is_baseline: bool = False
    comparison: Comparison | None = None
    p: float | None = None
    rank: int | None = None
    latencies: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def mean(self) -> float:
        """Return the mean accuracy, in per cent."""
        return statistics.fmean(self.top1.values())

    @cached_property
    def std(self) -> float | None:
        """Return the sample standard deviation over seeds; None with one seed."""
        return statistics.stdev(self.top1.values()) if len(self.top1) > 1 else None

    @property
    def params(self) -> int | None:
        """Return the number of parameters; None where its runs disagree."""
        return self._common("params")

    @property
    def macs(self) -> int | None:
        """Return the multiply-adds for one image; None where its runs disagree."""
        return self._common("macs")

    @cached_property
    def images_per_second(self) -> float | None:
        """Return the median speed of its trainings; None where it was not measured, or not under equal conditions."""
        runs = self.configuration.runs
        speeds = [speed for run in runs if (speed := run.summary.get("images_per_second"))]
        return statistics.median(speeds) if speeds and all(run.kernels == runs[0].kernels for run in runs) else None

    def _common(self, key: str) -> Any:
        values = {run.summary.get(key) for run in self.configuration.runs}
        return values.pop() if len(values) == 1 else None


@dataclass(frozen=True)
class Report:
    """Rows in the order in which they are printed, and what was asked for.

    Attributes:
        rows: sorted by setting; of each, the baseline before what is compared with it.
        metric: ``last``, ``best`` or ``test``.
        baseline: the option that others are compared with; None where no run has it.
        left_out: a line on each kind of run that is not in the rows.
        about_latency: lines on where the latencies come from.
    """

    rows: list[Row]
    metric: str
    baseline: str | None
    left_out: list[str]
    about_latency: list[str] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """Return the options that differ."""
        return list(self.rows[0].configuration.options)

    @property
    def settings(self) -> list[Key]:
        """Return what can't be compared with one another, in the order of the rows."""
        return list(self._numbers)

    @cached_property
    def differing(self) -> set[str]:
        """Return the keys of settings that have not the same value, or none, in all of them."""
        values: dict[str, set[str | None]] = {key: set() for setting in self.settings for key, _ in setting}
        for setting in map(dict, self.settings):
            for key in values:
                values[key].add(setting.get(key))
        return {key for key, different in values.items() if len(different) > 1}

    @property
    def forms(self) -> list[str]:
        """Return the forms in which any row's latency was measured."""
        return list(dict.fromkeys(form for row in self.rows for form in row.latencies))

    def number(self, row: Row) -> int:
        """Return which setting a row is of, from 1."""
        return self._numbers[row.configuration.setting]

    @cached_property
    def _numbers(self) -> dict[Key, int]:
        settings = dict.fromkeys(row.configuration.setting for row in self.rows)
        return {setting: number for number, setting in enumerate(settings, 1)}


def build_report(
    runs: Sequence[Run], group_by: Sequence[str], baseline: str | None, metric: str, left_out: Sequence[str] = ()
) -> Report:
    """Make the rows.

    Args:
        runs: finished ones.
        group_by: see `configurations`.
        baseline: an option of ``conv`` or ``model``; None takes ``standard`` where any run has it.
        metric: accuracy after the ``last`` epoch or of the ``best``, on what the run was evaluated on; or on the
            ``test`` set after the last.
        left_out: what is to be said of other runs.

    Raises:
        UserError: no such option or baseline, or no run has this accuracy.
    """
    measured = [run for run in runs if accuracy(run, metric) is not None]
    lacking = len(runs) - len(measured)
    if not measured:
        raise UserError(f"metric={metric}: none of the {lacking} finished runs has this accuracy; {_remedy(metric)}")
    lines = [f"without this accuracy, and left out: {lacking} finished"] if lacking else []
    rows = [Row(found, _by_seed(found.runs, metric)) for found in configurations(measured, group_by)]
    group = _baseline_group(measured, baseline, group_by)
    option = baseline or USUAL_BASELINE
    rows = _in_blocks(rows, group, group_by)
    if group is not None:
        rows = _corrected(_compared(rows, group, option))
    return Report(_ranked(rows), metric, option if group else None, [*left_out, *lines])


def accuracy(run: Run, metric: str) -> float | None:
    """Return a run's top-1 accuracy in per cent; None where it was not measured."""
    is_test = metric == "test"
    figures = run.summary.get("test") if is_test else run.summary.get(metric)
    if is_test and not figures and run.summary.get("evaluated_on") == "test":
        figures = run.summary.get("last")
    return 100 * figures["top1"] if figures and "top1" in figures else None


def _remedy(metric: str) -> str:
    return "metric=last is what every evaluated run has" if metric != "last" else "they were never evaluated"


def _by_seed(runs: Iterable[Run], metric: str) -> dict[int, float]:
    found: dict[int, list[float]] = defaultdict(list)
    for run in runs:
        found[run.seed].append(accuracy(run, metric) or 0.0)
    return {seed: statistics.fmean(values) for seed, values in sorted(found.items())}


def _baseline_group(runs: Sequence[Run], baseline: str | None, group_by: Sequence[str]) -> str | None:
    """Find the group that has the baseline among its options.

    Raises:
        UserError: a baseline that was asked for is in none, or rows are averages over that group.
    """
    option = baseline or USUAL_BASELINE
    group = next((name for name in _COMPARED if any(run.options[name] == option for run in runs)), None)
    if group is None and baseline is not None:
        known = dict.fromkeys(run.options[name] for name in _COMPARED for run in runs)
        near = nearest_first(baseline, known, most=5)
        raise UserError(f"baseline={baseline}: no run has this conv or model; nearest: {near}")
    if not group_by or group in group_by:
        return group
    if baseline is not None:
        raise UserError(f"baseline={baseline}: group_by={','.join(group_by)} averages over {group}; add {group} to it")
    return None


def _in_blocks(rows: Sequence[Row], group: str | None, group_by: Sequence[str]) -> list[Row]:
    """Bring rows together that are alike in all but the group of the baseline; without one, those of a setting."""

    def shared(row: Row) -> Key:
        setting = row.configuration.setting
        if group is None:
            return setting
        options = row.configuration.runs[0].options
        others = (key for key in group_by or options if key.partition(".")[0] != group)
        return (*setting, *((key, options.get(key, "")) for key in sorted(others)))

    numbers: dict[Key, int] = {}
    found = [replace(row, block=numbers.setdefault(shared(row), len(numbers))) for row in rows]
    settings = {row.configuration.setting: number for number, row in reversed(list(enumerate(found)))}
    return sorted(found, key=lambda row: (settings[row.configuration.setting], row.block))


def _compared(rows: Sequence[Row], group: str, option: str) -> list[Row]:
    """Compare each row with the baseline of its block, and put that first.

    Raises:
        UserError: a block has several baselines.
    """
    baselines: dict[int, Row] = {}
    for row in rows:
        if row.configuration.runs[0].options[group] == option:
            other = baselines.setdefault(row.block, row)
            if other is not row:
                both = f"{other.configuration.name} and {row.configuration.name}"
                raise UserError(f"baseline={option}: is not one row but several ({both}); choose with group_by={group}")
    found = [_against(row, baselines.get(row.block)) for row in rows]
    return sorted(found, key=lambda row: (row.block, not row.is_baseline))


def _against(row: Row, baseline: Row | None) -> Row:
    if row is baseline:
        return replace(row, is_baseline=True)
    return replace(row, comparison=compare(row.top1, baseline.top1)) if baseline else row


def _corrected(rows: Sequence[Row]) -> list[Row]:
    """Correct the p-values of all comparisons for their number."""
    tested = [number for number, row in enumerate(rows) if row.comparison and row.comparison.p is not None]
    corrected = dict(zip(tested, holm([_p(rows[number]) for number in tested]), strict=True))
    return [replace(row, p=corrected.get(number)) for number, row in enumerate(rows)]


def _p(row: Row) -> float:
    assert row.comparison is not None
    assert row.comparison.p is not None
    return row.comparison.p


def _ranked(rows: Sequence[Row]) -> list[Row]:
    """Number the best and the second of each block; equal means share a number."""
    means: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        means[row.block].append(row.mean)
    top = {block: sorted(set(values), reverse=True)[:2] for block, values in means.items() if len(values) > 1}

    def rank(row: Row) -> int | None:
        best = top.get(row.block, [])
        return best.index(row.mean) + 1 if row.mean in best else None

    return [replace(row, rank=rank(row)) for row in rows]
