"""What a printed table says: its headers, its cells, and what is remarked about them."""

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
        headers: of the columns in which any row has something; a header may have several lines.
        rows: a cell for each header: the row's name, and its figures.
        remarks: on each row, an empty text where there is nothing to remark.
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
    """Return what to print of a row, by header: each published figure, and behind it what was computed or measured."""
    found = {"row": Cell(entry.row.name)}
    for name, column in entry.table.columns.items():
        figure = entry.row.figures.get(name)
        found[f"{TITLES[name]}, {column.unit}"] = Cell(figure.text) if figure else EMPTY
        if name in COUNTED:
            found[_computed_header(entry.table, name, f", {column.unit}")] = _computed(entry, name, figure, column.unit)
        elif name in ("top1", "top5"):
            found[f"measured\n{TITLES[name]}, {column.unit}"] = Cell(measured_text(entry, name))
    for name in ("params", "flops"):
        if name not in entry.table.columns and name in entry.computed:
            found[_computed_header(entry.table, name)] = _marked(entry, name, f"{entry.computed[name]:,}")
    return found


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
    """Return a measured accuracy with its standard deviation, marked where the training was another one."""
    measured = entry.measured
    if name not in measured:
        return ""
    spread = measured["top1_std"] if name == "top1" else None
    text = f"{measured[name]:.2f}" + (f" ± {spread:.2f}" if spread is not None else "")
    return text + ("*" if measured["differs"] else "")


def remark(entry: Entry) -> str:
    """Say what a row's figures do not.

    How they were counted, where that is not as in the rest of the table; why one does not come out; what was measured
    otherwise than published.
    """
    row = entry.row
    found = [row.note or "", *_switches(entry)]
    for name, why in row.erratum.items():
        kind = "needless erratum" if name in entry.needless else "erratum"
        found.append(f"{kind}, {TITLES[name]}: {why}")
    if row.external:
        found.append("external")
    if row.same_cost_as:
        found.append(f"costs as much as {row.same_cost_as}")
    if entry.measured:
        found.append(f"* measured with {', '.join(entry.measured['differs'])}" if entry.measured["differs"] else "")
        found.append(f"n = {entry.measured['n']}")
    return "; ".join(filter(None, found))


def _switches(entry: Entry) -> Iterator[str]:
    table, row = entry.table, entry.row
    if row.convention not in (None, table_convention(table)):
        yield f"FLOPs by {row.convention}"
    if row.without_norms:
        yield "params without batch norms"
    if row.folded != table.folded:
        yield "folded" if row.folded else "not folded"


def remarks_on_all(table: Table) -> str:
    """Say how the figures of a whole table were counted and compared, where that is not plain."""
    cut_off = ", ".join(TITLES[name] for name, column in table.columns.items() if column.truncated)
    found = ["Counted as folded for inference."] if table.folded else []
    found += [f"Cut off behind the last digit: {cut_off}."] if cut_off else []
    return " ".join(found)
