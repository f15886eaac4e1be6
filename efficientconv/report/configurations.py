"""Runs sorted into configurations, and the options by which these differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from efficientconv.errors import UserError, nearest_first
from efficientconv.report.runs import GROUPS, Run

Key = tuple[tuple[str, str], ...]

_SETTING = ("data", "recipe", "trainer", "callbacks")


@dataclass(frozen=True)
class Configuration:
    """Runs that are one row of the report.

    Attributes:
        options: the value of each column; an empty text where a run has no such option.
        setting: what accuracies have to have in common to be compared: data, recipe, epochs.
        runs: one for each seed, as a rule.
    """

    options: dict[str, str]
    setting: Key
    runs: tuple[Run, ...]

    @cached_property
    def name(self) -> str:
        """Return its options in one line, as on the command line."""
        return " ".join(f"{key}={value}" for key, value in self.options.items() if value)

    @cached_property
    def mixed(self) -> dict[str, list[str]]:
        """Return the options in which its runs differ, the seed aside; none unless ``group_by`` left some out."""
        keys = dict.fromkeys(key for run in self.runs for key in run.options)
        values = {key: sorted({run.options.get(key, "") for run in self.runs}) for key in keys}
        return {key: found for key, found in values.items() if len(found) > 1}


def setting_of(run: Run) -> Key:
    """Return what a run's accuracy must share with another's to be compared with it."""
    return tuple(sorted((key, value) for key, value in run.options.items() if key.partition(".")[0] in _SETTING))


def configurations(runs: Sequence[Run], group_by: Sequence[str] = ()) -> list[Configuration]:
    """Sort runs into the rows of a report.

    Args:
        runs: of any configurations.
        group_by: options that make the rows, all else being averaged over; without them only seeds are. Runs that
            are not comparable never share a row.

    Returns:
        The rows in order of setting and options, numbers in the order of their values.

    Raises:
        UserError: no run has an option of that name.
    """
    _require_known(runs, group_by)
    rows: dict[Key, list[Run]] = defaultdict(list)
    for run in runs:
        rows[_key(run, group_by)].append(run)
    columns = _columns(rows, group_by)
    found = [
        Configuration({key: of[0].options.get(key, "") for key in columns}, setting_of(of[0]), tuple(of))
        for of in rows.values()
    ]
    return sorted(found, key=lambda row: ([value for _, value in row.setting], list(map(_order, row.options.values()))))


def _require_known(runs: Sequence[Run], group_by: Sequence[str]) -> None:
    known = dict.fromkeys(key for run in runs for key in run.options)
    for key in group_by:
        if key not in known:
            raise UserError(f"group_by={key}: no run has such an option; nearest: {nearest_first(key, known, most=5)}")


def _key(run: Run, group_by: Sequence[str]) -> Key:
    if not group_by:
        return tuple(sorted(run.options.items()))
    return (*((key, run.options.get(key, "")) for key in group_by), *setting_of(run))


def _columns(rows: dict[Key, list[Run]], group_by: Sequence[str]) -> list[str]:
    """Choose columns: groups and options of command lines that differ, and whatever else it takes to part all rows."""
    first = [runs[0] for runs in rows.values()]
    keys = [key for key in dict.fromkeys(key for row in rows for key, _ in row) if _differs(first, key)]
    named = frozenset().union(*(run.named for run in first))
    wanted = [*group_by] or [*(key for key in GROUPS if key in keys), *(key for key in keys if key in named)]
    chosen = list(dict.fromkeys(wanted))
    labels = _labels(first, chosen)
    for key in keys:
        if len(set(labels)) == len(rows):
            break
        finer = _labels(first, [*chosen, key])
        if len(set(finer)) > len(set(labels)):
            chosen, labels = [*chosen, key], finer
    return chosen or ["conv"]


def _differs(runs: Iterable[Run], key: str) -> bool:
    return len({run.options.get(key, "") for run in runs}) > 1


def _labels(runs: Iterable[Run], keys: Sequence[str]) -> list[tuple[str, ...]]:
    return [tuple(run.options.get(key, "") for key in keys) for run in runs]


def _order(value: str) -> tuple[bool, float, str]:
    try:
        return False, float(value), value
    except ValueError:
        return True, 0.0, value
