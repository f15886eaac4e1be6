"""A table's rows with all three kinds of figures: published, computed, measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from efficientconv.tables.compose import composed_training
from efficientconv.tables.counts import agreement, count_row
from efficientconv.tables.figures import Figure, printed
from efficientconv.tables.measured import Measurements
from efficientconv.tables.table import COUNTED, Row, Table

TITLES = {
    "params": "params",
    "flops": "FLOPs",
    "params_saved": "params saved",
    "top1": "top-1",
    "top5": "top-5",
    "latency": "latency",
}


@dataclass(frozen=True)
class Entry:
    """One row with what was computed and measured of it.

    Attributes:
        table: its table.
        row: as published.
        computed: see `count_row`.
        agreement: see `agreement`.
        measured: see `Measurements.measured`.
    """

    table: Table
    row: Row
    computed: Mapping[str, Any]
    agreement: Mapping[str, bool]
    measured: Mapping[str, Any]

    @property
    def agrees(self) -> bool | None:
        """Whether every counted figure that was published comes out; None where none was published."""
        return all(self.agreement.values()) if self.agreement else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: published and computed figures in the same units, exact counts as ints.

        ``printed`` has the published figures as text, with all their digits.
        """
        paper, _, name = self.table.name.partition("/")
        return {
            "paper": paper,
            "table": name,
            "row": self.row.name,
            "overrides": [*self.table.overrides, *self.row.overrides],
            "published": {key: figure.value for key, figure in self.row.figures.items()},
            "printed": {key: str(figure) for key, figure in self.row.figures.items()},
            "computed": {k: float(v) if isinstance(v, Fraction) else v for k, v in self.computed.items()},
            "measured": dict(self.measured),
            "agrees": self.agrees,
            "erratum": dict(self.row.erratum) or None,
            "external": self.row.external,
            "note": self.row.note,
        }

    def cells(self) -> dict[str, str]:
        """Return what to print, by column: each published figure and, behind it, what was computed or measured."""
        found = {"row": self.row.name}
        for name, column in self.table.columns.items():
            figure = self.row.figures.get(name)
            found[f"{TITLES[name]}, {column.unit}"] = figure.text if figure else ""
            if name in COUNTED:
                found[f"{TITLES[name]} computed"] = self._computed(name, figure, column.unit)
            elif name in ("top1", "top5"):
                found[f"{TITLES[name]} measured"] = self._measured(name)
        for name in ("params", "flops"):
            if name not in self.table.columns and name in self.computed:
                found[f"{TITLES[name]} computed"] = f"{self.computed[name]:,}"
        return found | {"remarks": self.remark()}

    def _computed(self, name: str, figure: Figure | None, unit: str) -> str:
        if name not in self.computed:
            return ""
        text = figure.like(self.computed[name]) if figure else printed(self.computed[name], unit, 2)
        return text if self.agreement.get(name, True) else f"**{text}**"

    def _measured(self, name: str) -> str:
        if name not in self.measured:
            return ""
        spread = self.measured["top1_std"] if name == "top1" else None
        text = f"{self.measured[name]:.2f}" + (f" ± {spread:.2f}" if spread is not None else "")
        return text + ("*" if self.measured["differs"] else "")

    def remark(self) -> str:
        """Say what the figures do not: why one does not come out, what was measured otherwise than published."""
        found = [self.row.note or ""]
        found += [f"erratum, {TITLES[name]}: {why}" for name, why in self.row.erratum.items()]
        if self.row.external:
            found.append("external")
        if self.row.same_cost_as:
            found.append(f"costs as much as {self.row.same_cost_as}")
        if self.measured:
            found.append(f"* measured with {', '.join(self.measured['differs'])}" if self.measured["differs"] else "")
            found.append(f"n = {self.measured['n']}")
        return "; ".join(filter(None, found))


def grid(section: Sequence[Entry]) -> tuple[list[str], list[list[str]]]:
    """Return the headers and rows of one table, without the columns in which no row has anything."""
    rows = [entry.cells() for entry in section]
    headers = [
        header for header in dict.fromkeys(key for row in rows for key in row) if any(row.get(header) for row in rows)
    ]
    return headers, [[row.get(header, "") for header in headers] for row in rows]


def entries(table: Table, rows: Sequence[Row], measurements: Measurements) -> list[Entry]:
    """Count and look up rows.

    Raises:
        UserError: a row that cannot be built.
    """
    composed_training(table)  # before much is counted: a table whose training does not compose is not right either
    found = []
    for row in rows:
        computed = count_row(table, row)
        measured = measurements.measured(table, row)
        found.append(Entry(table, row, computed, agreement(table, row, computed), measured))
    return found


def tally(found: Sequence[Entry]) -> str:
    """Say how many rows come out, in words."""
    kinds = Counter(_kind(entry) for entry in found)
    return f"{len(found)} rows: " + ", ".join(f"{kinds[kind]} {kind}" for kind in _KINDS if kinds[kind])


_KINDS = ("agree", "differ", "with an erratum", "without published counts", "external")


def _kind(entry: Entry) -> str:
    if entry.agrees is None:
        return "external" if entry.row.external else "without published counts"
    return "agree" if entry.agrees else "with an erratum" if entry.row.erratum else "differ"
