"""The content of a printed table: its headers, its cells, and the remarks on its rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from efficientconv.tables.count.network import comparable, table_convention
from efficientconv.tables.entries import Entry
from efficientconv.tables.load.figures import Figure, printed
from efficientconv.tables.load.table import COUNTED, Table
from efficientconv.tables.render.markup import Cell

TITLES = {
    "params": "params",
    "flops": "FLOPs",
    "params_saved": "params saved",
    "top1": "top-1",
    "top5": "top-5",
    "latency": "latency",
}

EMPTY = Cell("")


@dataclass(frozen=True)
class Grid:
    """One table as it is printed.

    Attributes:
        headers: of the columns that are not empty; a header may have several lines.
        rows: a cell for each header: the row's name and its figures.
        remarks: one for each row, empty where there is none.
    """

    headers: list[str]
    rows: list[list[Cell]]
    remarks: list[str]


def grid(section: Sequence[Entry]) -> Grid:
    """Lay out the rows of one table."""
    rows = [cells(entry) for entry in section]
    filled = {header for row in rows for header, cell in row.items() if cell.text}
    headers = [header for header in dict.fromkeys(header for row in rows for header in row) if header in filled]
    return Grid(headers, [[row.get(header, EMPTY) for header in headers] for row in rows], list(map(remark, section)))


def cells(entry: Entry) -> dict[str, Cell]:
    """Return the cells of a row by header: each published figure, then the computed or measured one."""
    by_header = {"row": Cell(entry.row.name)}
    for name, column in entry.table.columns.items():
        figure = entry.row.figures.get(name)
        by_header[f"{TITLES[name]}, {column.unit}"] = Cell(figure.text) if figure else EMPTY
        if name in COUNTED:
            header = _computed_header(entry.table, name, f", {column.unit}")
            by_header[header] = _computed(entry, name, figure, column.unit)
        elif name in ("top1", "top5"):
            by_header[f"measured\n{TITLES[name]}, {column.unit}"] = Cell(measured_text(entry, name))
    for name in ("params", "flops"):
        if name not in entry.table.columns and name in entry.computed:
            by_header[_computed_header(entry.table, name)] = _marked(entry, name, f"{entry.computed[name]:,}")
    return by_header


def _computed_header(table: Table, name: str, unit: str = "") -> str:
    convention = f"\n({table_convention(table)})" if name == "flops" else ""
    return f"computed\n{TITLES[name]}{unit}{convention}"


def _computed(entry: Entry, name: str, figure: Figure | None, unit: str) -> Cell:
    if not entry.computed:
        return EMPTY
    exact = comparable(entry.computed, name)
    return _marked(entry, name, figure.like(exact) if figure else printed(exact, unit, 2))


def _marked(entry: Entry, name: str, text: str) -> Cell:
    return Cell(text, differs=not entry.agreement.get(name, True))


def measured_text(entry: Entry, name: str) -> str:
    """Return a measured accuracy with its standard deviation, starred where the training is not the published one."""
    measured = entry.measured
    if name not in measured:
        return ""
    spread = measured["top1_std"] if name == "top1" else None
    text = f"{measured[name]:.2f}" + (f" ± {spread:.2f}" if spread is not None else "")
    return text + ("*" if measured["differs"] else "")


def remark(entry: Entry) -> str:
    """Return the remark on a row: its note, how its counts differ from the rest of the table, errata, and its runs."""
    row = entry.row
    parts = [row.note or "", *_switches(entry)]
    for name, why in row.erratum.items():
        kind = "needless erratum" if name in entry.needless else "erratum"
        parts.append(f"{kind}, {TITLES[name]}: {why}")
    if row.external:
        parts.append("external")
    if row.same_cost_as:
        parts.append(f"costs as much as {row.same_cost_as}")
    if entry.measured:
        parts.append(f"* measured with {', '.join(entry.measured['differs'])}" if entry.measured["differs"] else "")
        parts.append(f"n = {entry.measured['n']}")
    return "; ".join(filter(None, parts))


def _switches(entry: Entry) -> Iterator[str]:
    table, row = entry.table, entry.row
    if row.convention not in (None, table_convention(table)):
        yield f"FLOPs by {row.convention}"
    if row.without_norms:
        yield "params without batch norms"
    if row.folded != table.folded:
        yield "folded" if row.folded else "not folded"


def remarks_on_all(table: Table) -> str:
    """Return the remarks on the figures of a whole table: counted as folded, or cut off in place of rounded."""
    cut_off = ", ".join(TITLES[name] for name, column in table.columns.items() if column.truncated)
    remarks = ["Counted as folded for inference."] if table.folded else []
    remarks += [f"Cut off behind the last digit: {cut_off}."] if cut_off else []
    return " ".join(remarks)
