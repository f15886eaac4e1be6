"""What a printed table says: its headers, its cells, and what is remarked about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from efficientconv.tables.counts import comparable, table_convention
from efficientconv.tables.entries import Entry
from efficientconv.tables.figures import Figure, printed
from efficientconv.tables.table import COUNTED, Table

TITLES = {
    "params": "params",
    "flops": "FLOPs",
    "params_saved": "params saved",
    "top1": "top-1",
    "top5": "top-5",
    "latency": "latency",
}


def grid(section: Sequence[Entry]) -> tuple[list[str], list[list[str]]]:
    """Return the headers and rows of one table, without the columns in which no row has anything.

    A header may have several lines. A computed figure that does not come out stands between ``**``.
    """
    rows = [cells(entry) for entry in section]
    headers = [
        header for header in dict.fromkeys(key for row in rows for key in row) if any(row.get(header) for row in rows)
    ]
    return headers, [[row.get(header, "") for header in headers] for row in rows]


def cells(entry: Entry) -> dict[str, str]:
    """Return what to print of a row, by header: each published figure, and behind it what was computed or measured."""
    found = {"row": entry.row.name}
    for name, column in entry.table.columns.items():
        figure = entry.row.figures.get(name)
        found[f"{TITLES[name]}, {column.unit}"] = figure.text if figure else ""
        if name in COUNTED:
            found[_computed_header(entry.table, name, f", {column.unit}")] = _computed(entry, name, figure, column.unit)
        elif name in ("top1", "top5"):
            found[f"measured\n{TITLES[name]}, {column.unit}"] = _measured(entry, name)
    for name in ("params", "flops"):
        if name not in entry.table.columns and name in entry.computed:
            found[_computed_header(entry.table, name)] = _marked(entry, name, f"{entry.computed[name]:,}")
    return found | {"remarks": remark(entry)}


def _computed_header(table: Table, name: str, unit: str = "") -> str:
    convention = f"\n({table_convention(table)})" if name == "flops" else ""
    return f"computed\n{TITLES[name]}{unit}{convention}"


def _computed(entry: Entry, name: str, figure: Figure | None, unit: str) -> str:
    if not entry.computed:
        return ""
    exact = comparable(entry.computed, name)
    return _marked(entry, name, figure.like(exact) if figure else printed(exact, unit, 2))


def _marked(entry: Entry, name: str, text: str) -> str:
    return text if entry.agreement.get(name, True) else f"**{text}**"


def _measured(entry: Entry, name: str) -> str:
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
