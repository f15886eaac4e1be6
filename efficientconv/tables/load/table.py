"""A published table: its rows, their printed figures, and the overrides that build and train them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from efficientconv.tables.load.figures import Figure
from efficientconv.tables.load.overrides import merged

COUNTED = ("params", "flops", "params_saved")
COLUMNS = (*COUNTED, "top1", "top5", "latency")


@dataclass(frozen=True)
class Column:
    """A column of figures.

    Attributes:
        unit: of its figures.
        convention: by which FLOPs are counted.
        of: name of the row that a saving is relative to.
        truncated: whether the figures were cut off behind their last digit instead of rounded.
    """

    unit: str
    convention: str | None = None
    of: str | None = None
    truncated: bool = False


@dataclass(frozen=True)
class Row:
    """A published row: the overrides that build its network, and its printed figures.

    ``input_size`` is None for the table's. A row with ``where_present`` is trained only where its data set is present
    or can be downloaded.
    """

    name: str
    overrides: tuple[str, ...]
    figures: Mapping[str, Figure]
    input_size: tuple[int, int, int] | None = None
    where_present: bool = False
    convention: str | None = None
    folded: bool = False
    without_norms: bool = False
    same_cost_as: str | None = None
    note: str | None = None
    erratum: Mapping[str, str] = field(default_factory=dict)
    external: bool = False


@dataclass(frozen=True)
class Table:
    """A published table; ``name`` is ``<paper>/<table>``, the path of its file without the ending.

    ``folded`` is the default of the rows.
    """

    name: str
    paper: str
    title: str
    source: str
    notes: str | None
    classes: int
    input_size: tuple[int, int, int]
    overrides: tuple[str, ...]
    stand_ins: tuple[str, ...]
    seeds: tuple[int, ...]
    columns: Mapping[str, Column]
    folded: bool
    rows: tuple[Row, ...]

    def row(self, name: str) -> Row:
        """Return the row of that name."""
        return next(row for row in self.rows if row.name == name)

    def of(self, row: Row) -> Table:
        """Return the table for one row: with the row's overrides, which win over the table's, and its input size."""
        overrides = tuple(merged(self.overrides, row.overrides))
        return replace(self, overrides=overrides, input_size=row.input_size or self.input_size)

    def rows_like(self, pattern: str) -> list[Row]:
        """List the rows whose names match a glob pattern, whatever the case of the letters."""
        return [row for row in self.rows if fnmatchcase(row.name.lower(), pattern.lower())]
