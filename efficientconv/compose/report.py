"""The report of a replacement: a table for people, short at any depth, and plain data for files."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeVar

from rich import box
from rich.console import Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

_NUMBERS = re.compile(r"(\d+)")
_KEPT_LINES = 12  # a rule that fits a model badly would fill the screen
_COLUMNS: dict[str, JustifyMethod] = {
    "replaced": "left",
    "n": "right",
    "before": "left",
    "after": "left",
    "params": "right",
    "MACs": "right",
}

_ERRORS = {
    "kernels": "Error: of the new kernel, relative to the one that it replaces; 0 computes the same.",
    "outputs": "Error: of the new layer's outputs on training images, relative to those of the one that it replaces.",
}
EXACT = 1e-6  # below it an error is what rounding leaves

ErrorsOf = Literal["kernels", "outputs"] | None
T = TypeVar("T")


@dataclass(frozen=True)
class Replaced:
    """One unit that was replaced.

    Attributes:
        name: dotted name in the model, the first of them where the unit is shared.
        before: the old unit, such as ``3×3 64→128 /2``.
        after: the new layer.
        note: any other difference, in a few words; empty where there is none.
        dropped: names of the model's norms that were removed with the unit.
        narrowed: names of the 1×1 convolutions behind the unit that were rebuilt narrower.
        params_before: parameters of the old unit.
        params_after: parameters of the new layer.
        macs_before: multiply-adds of the old unit for one image; None where no ``input_size`` was given.
        macs_after: multiply-adds of the new layer, likewise.
        error: of the new layer, relative to the old one, where it begins near it; see ``ReplacementReport.errors_of``.
    """

    name: str
    before: str
    after: str
    note: str
    dropped: tuple[str, ...]
    narrowed: tuple[str, ...]
    params_before: int
    params_after: int
    macs_before: int | None
    macs_after: int | None
    error: float | None


@dataclass(frozen=True)
class Kept:
    """One unit that the rule selects and that stayed as it was, and the reason."""

    name: str
    before: str
    reason: str


@dataclass(frozen=True)
class ReplacementReport:
    """The units of a model that were replaced, those that were kept and why, and the model's costs before and after.

    Attributes:
        model: name of the model's class.
        rule: the layers and the convolutions that they are for, in words.
        replaced: the units that were replaced, in the order of the forward pass.
        kept: the units that the rule selects and that the layer cannot represent.
        others: the units that the rule does not select, counted by kind, such as ``{"dense 1×1": 36}``.
        penalties: names of the layers that add a penalty to the training loss.
        remark: the limits of the analysis of this model; empty where there are none.
        same_architecture: whether every new layer computes and stores the same as the unit before it.
        params_before: parameters of the whole model.
        params_after: parameters of the new model.
        macs_before: multiply-adds of the whole model for one image; None where no ``input_size`` was given.
        macs_after: multiply-adds of the new model, likewise.
        errors_of: ``kernels`` where the new layers begin near the old ones if they can, ``outputs`` where they are then
            fitted to them on images, None where they begin anew.
    """

    model: str
    rule: str
    replaced: tuple[Replaced, ...]
    kept: tuple[Kept, ...]
    others: dict[str, int]
    penalties: tuple[str, ...]
    remark: str
    same_architecture: bool
    params_before: int
    params_after: int
    macs_before: int | None
    macs_after: int | None
    errors_of: ErrorsOf

    def fitted(self, errors: Mapping[str, float]) -> ReplacementReport:
        """Return the report with the errors of new layers' outputs, by name, after fitting."""
        rows = tuple(replace(row, error=errors.get(row.name)) for row in self.replaced)
        return replace(self, replaced=rows, errors_of="outputs")

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings, lists and dicts, as JSON has them."""
        plain = asdict(self)
        plain["replaced"] = [
            row | {key: list(row[key]) for key in ("dropped", "narrowed")} for row in plain["replaced"]
        ]
        return plain | {"kept": list(plain["kept"]), "penalties": list(plain["penalties"])}

    def summary(self) -> list[str]:
        """Return a line on what was replaced by what, and a line on the kept units for each reason."""
        return [f"{self.rule}: {len(self.replaced)} replaced, {len(self.kept)} kept", *_kept_lines(self.kept)]

    def __rich__(self) -> RenderableType:
        """Lay out one table, with one line for all units that differ only in the numbers in their names."""
        return Group(
            Text(f"{self.model}: {self.rule}", style="bold"),
            *([_table(self.replaced, self.errors_of is not None)] if self.replaced else []),
            *map(Text, _sentences(self)),
        )


def counted(units: dict[str, int]) -> str:
    """Write counts by kind as a list, the most frequent first: ``36 dense 1×1, 1 dense 7×7 (stem)``."""
    return ", ".join(f"{n} {kind}" for kind, n in sorted(units.items(), key=lambda item: -item[1]))


def numberless(text: str) -> str:
    """Replace each number in ``text`` by a star, so that names and reasons that differ only in numbers become equal."""
    return _NUMBERS.sub("*", text)


def _table(replaced: Sequence[Replaced], has_errors: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    columns = _COLUMNS | ({"error": "right"} if has_errors else {})
    for header, justify in columns.items():
        table.add_column(header, justify=justify, overflow="fold")
    for rows in _alike(replaced, lambda row: (row.name, row.before, row.after)):
        table.add_row(*_cells(rows), *([_errors(rows)] if has_errors else []))
    return table


def _cells(rows: Sequence[Replaced]) -> Iterator[str]:
    yield _pattern([row.name for row in rows])
    yield str(len(rows))
    yield rows[0].before
    yield rows[0].after
    yield _change(sum(row.params_before for row in rows), sum(row.params_after for row in rows))
    yield _change(_sum(row.macs_before for row in rows), _sum(row.macs_after for row in rows))


def _errors(rows: Sequence[Replaced]) -> str:
    """Write the least and the largest error of rows, or that they begin anew."""
    errors = [row.error for row in rows if row.error is not None]
    if not errors:
        return "anew"
    least, largest = (f"{error:.2g}" if error >= EXACT else "0" for error in (min(errors), max(errors)))
    return least if least == largest else f"{least} – {largest}"


def _sentences(report: ReplacementReport) -> Iterator[str]:
    params, macs = (report.params_before, report.params_after), (report.macs_before, report.macs_after)
    yield f"In all: {_change(*params)} parameters{_percent(*params)}" + (
        f", {_change(*macs)} MACs{_percent(*macs)}" if report.macs_after is not None else ""
    )
    if report.same_architecture:
        yield (
            "The architecture stays as it was, and so do parameters, MACs and outputs: each new layer computes what "
            "the old one did. The difference is in the training loss alone."
        )
    if report.penalties:
        yield (
            f"{len(report.penalties)} layers add a penalty to the training loss, weighted by "
            f"conv.regularization_weight: {_patterns(report.penalties)}."
        )
    for note, names in _by_note(report.replaced).items():
        yield f"{note[0].upper()}{note[1:]}: {_patterns(names)} ({len(names)} of {len(report.replaced)})."
    if report.errors_of and report.replaced:
        yield from _beginning(report)
    if report.others and report.replaced:
        yield f"Not selected: {counted(report.others)}."
    yield from _kept_lines(report.kept)
    if report.remark:
        yield f"{report.remark}."


def _beginning(report: ReplacementReport) -> Iterator[str]:
    """Say what the errors are, and which layers begin anew."""
    anew = [row for row in report.replaced if row.error is None]
    if len(anew) < len(report.replaced):
        yield _ERRORS[report.errors_of or "kernels"]
    if anew:
        layers = ", ".join(sorted({row.after.partition(" ")[0] for row in anew}))
        which = f"{_patterns([row.name for row in anew])} ({len(anew)} of {len(report.replaced)})"
        yield f"{layers} has no approximation of what it replaces here and begins anew: {which}."


def _kept_lines(kept: Sequence[Kept]) -> Iterator[str]:
    groups = _alike(kept, lambda unit: (unit.name, numberless(unit.reason)))
    for units in groups[:_KEPT_LINES]:
        count = f" (×{len(units)})" if len(units) > 1 else ""
        yield f"Kept {_pattern([unit.name for unit in units])}{count}, {units[0].before}: {units[0].reason}"
    if len(groups) > _KEPT_LINES:
        yield f"… and {sum(map(len, groups[_KEPT_LINES:]))} more that are kept."


def _by_note(replaced: Iterable[Replaced]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = defaultdict(list)
    for row in replaced:
        if row.note:
            names[row.note].append(row.name)
    return names


def _alike(rows: Iterable[T], key: Callable[[T], tuple[str, ...]]) -> list[list[T]]:
    """Group rows by their keys: a name, in which numbers may differ, and further texts, which must be equal."""
    groups: dict[tuple[str, ...], list[T]] = defaultdict(list)
    for row in rows:
        name, *rest = key(row)
        groups[(numberless(name), *rest)].append(row)
    return list(groups.values())


def _pattern(names: Sequence[str]) -> str:
    """Return the common pattern of names that differ only in numbers: ``layer1.*.conv*``."""
    columns = zip(*(_NUMBERS.split(name) for name in names), strict=True)
    return "".join(column[0] if len(set(column)) == 1 else "*" for column in columns)


def _patterns(names: Sequence[str]) -> str:
    patterns = [_pattern(alike) for alike in _alike(names, lambda name: (name,))]
    return ", ".join(patterns[:3]) + (", …" if len(patterns) > 3 else "")


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _change(before: int | None, after: int | None) -> str:
    if before is None or after is None:
        return ""
    return _human(before) if before == after else f"{_human(before)} → {_human(after)}"


def _percent(before: int | None, after: int | None) -> str:
    if not before or after is None or before == after:
        return ""
    return f" ({100 * (after - before) / before:+.1f}%)"


def _human(count: int) -> str:
    """Write three digits and a unit: 999, 1.23 k, 45.6 M."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            digits = max(0, 3 - len(str(count // size)))
            return f"{count / size:.{digits}f} {unit}"
    return str(count)
