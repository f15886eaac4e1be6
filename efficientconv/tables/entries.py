"""Rows of tables with their published, computed and measured figures, and the number of rows that agree."""

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
"""Number of rows that is worth further processes: a process takes seconds to start, a row some tenths of one."""

MOST_PROCESSES = 4


@dataclass(frozen=True)
class Entry:
    """One row with its computed and measured figures.

    Attributes:
        table: the row's table.
        row: the published row.
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
        """Whether every published figure that is counted agrees with the computed one; None where there is none."""
        return all(self.agreement.values()) if self.agreement else None

    @property
    def unexplained(self) -> list[str]:
        """The columns whose figures do not agree and have no erratum."""
        return [name for name, agrees in self.agreement.items() if not agrees and name not in self.row.erratum]

    @property
    def needless(self) -> list[str]:
        """The columns with an erratum although their figures agree or are not counted."""
        return [name for name in self.row.erratum if self.agreement.get(name, True)]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: published and computed figures without units, counts as exact ints.

        ``folded``, ``truncated`` (columns) and the keys of ``computed`` say how the figures were counted and compared.
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
    """Return the rows of one table with their counted and measured figures.

    Raises:
        UserError: a row cannot be built or trained.
    """
    for row in rows:  # before the counting, which takes longer
        if not row.external:
            require_training(table, row)
    counted = []
    for row in rows:
        computed = count_row(table, row)
        measured = measurements.measured(table, row)
        counted.append(Entry(table, row, computed, agreement(table, row, computed), measured))
    return counted


def entries_of_tables(chosen: Sequence[tuple[Table, Sequence[Row]]], measurements: Measurements) -> list[list[Entry]]:
    """Return the rows of several tables with their figures; many rows are counted on several cores.

    Raises:
        UserError: a row cannot be built or trained.
    """
    if sum(len(rows) for _, rows in chosen) < MANY_ROWS:
        return [entries(table, rows, measurements) for table, rows in chosen]
    processes = min(len(chosen), os.cpu_count() or 1, MOST_PROCESSES)
    return in_processes(entries, [(table, rows, measurements) for table, rows in chosen], processes)


KINDS = ("agree", "differ", "with a needless erratum", "with an erratum", "without published counts", "external")


def kinds(section: Sequence[Entry]) -> Counter[str]:
    """Count the rows of each of `KINDS`."""
    return Counter(map(_kind, section))


def tally(counted: Mapping[str, int]) -> str:
    """Write the number of rows of each of `KINDS`: ``2 rows: 1 agrees, 1 external``."""
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
