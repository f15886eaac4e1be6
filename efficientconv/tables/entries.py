"""A table's rows with all three kinds of figures: published, computed, measured; and how many of them come out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from efficientconv.tables.count.configurations import require_training
from efficientconv.tables.count.network import agreement, count_row
from efficientconv.tables.count.parallel import in_processes
from efficientconv.tables.load.table import Row, Table
from efficientconv.tables.measure.runs import Measurements

MANY_ROWS = 60
"""From so many on counting is worth further processes: one takes seconds to start, and a row some tenths of one."""

MOST_PROCESSES = 4


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

    @property
    def unexplained(self) -> list[str]:
        """The columns whose figures do not come out and have no erratum that says why."""
        return [name for name, agrees in self.agreement.items() if not agrees and name not in self.row.erratum]

    @property
    def needless(self) -> list[str]:
        """The columns with an erratum although their figures come out, or are not counted."""
        return [name for name in self.row.erratum if self.agreement.get(name, True)]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: published and computed figures without their units' factors, counts as exact ints.

        ``folded``, ``truncated`` (columns) and the keys of ``computed`` tell how they were counted and compared.
        """
        paper, _, name = self.table.name.partition("/")
        return {
            "paper": paper,
            "table": name,
            "row": self.row.name,
            "overrides": list(self.table.of(self.row).overrides),
            "published": {key: figure.value for key, figure in self.row.figures.items()},
            "computed": {k: float(v) if isinstance(v, Fraction) else v for k, v in self.computed.items()},
            "measured": dict(self.measured),
            "agrees": self.agrees,
            "erratum": dict(self.row.erratum) or None,
            "external": self.row.external,
            "folded": self.row.folded,
            "truncated": [key for key, figure in self.row.figures.items() if figure.truncated],
            "note": self.row.note,
        }


def entries(table: Table, rows: Sequence[Row], measurements: Measurements) -> list[Entry]:
    """Count and look up rows of one table.

    Raises:
        UserError: a row that cannot be built or trained.
    """
    for row in rows:  # before much is counted: one whose training does not compose is not right either
        if not row.external:
            require_training(table, row)
    found = []
    for row in rows:
        computed = count_row(table, row)
        measured = measurements.measured(table, row)
        found.append(Entry(table, row, computed, agreement(table, row, computed), measured))
    return found


def entries_of_tables(chosen: Sequence[tuple[Table, Sequence[Row]]], measurements: Measurements) -> list[list[Entry]]:
    """Count and look up rows of several tables; of many rows on several cores.

    Raises:
        UserError: a row that cannot be built or trained.
    """
    if sum(len(rows) for _, rows in chosen) < MANY_ROWS:
        return [entries(table, rows, measurements) for table, rows in chosen]
    processes = min(len(chosen), os.cpu_count() or 1, MOST_PROCESSES)
    return in_processes(entries, [(table, rows, measurements) for table, rows in chosen], processes)


KINDS = ("agree", "differ", "with a needless erratum", "with an erratum", "without published counts", "external")


def kinds(found: Sequence[Entry]) -> Counter[str]:
    """Count the rows of each of `KINDS`."""
    return Counter(map(_kind, found))


def tally(counted: Mapping[str, int]) -> str:
    """Say in words how many rows there are of each of `KINDS`."""
    parts = [_number_of(kind, counted[kind]) for kind in KINDS if counted.get(kind)]
    total = sum(counted.values())
    return f"{total} {'row' if total == 1 else 'rows'}: {', '.join(parts)}"


def _kind(entry: Entry) -> str:
    if entry.unexplained:
        return "differ"
    if entry.needless:
        return "with a needless erratum"
    if entry.row.erratum:
        return "with an erratum"
    if entry.agreement:
        return "agree"
    return "external" if entry.row.external else "without published counts"


def _number_of(kind: str, number: int) -> str:
    is_verb = kind in ("agree", "differ")
    return f"{number} {kind}s" if is_verb and number == 1 else f"{number} {kind}"
