"""Tables as text for a terminal, Markdown, CSV and JSON: the same figures in all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any

from rich.console import Group
from rich.text import Text

from efficientconv.console import figures_table
from efficientconv.tables.entries import Entry, kinds, tally
from efficientconv.tables.load.table import Table
from efficientconv.tables.render.cells import Grid, grid, remark, remarks_on_all
from efficientconv.tables.render.markup import (
    Cell,
    csv_text,
    json_text,
    markdown_table,
)

Section = Sequence[Entry]
"""The entries of one table, at least one."""


def heading(table: Table) -> str:
    """Return a table's heading: its name and its title, which several tables may share."""
    return f"{table.name}: {table.title}"


def about(section: Section) -> list[str]:
    """Return a table's number of rows that agree, its source, and its notes."""
    table = section[0].table
    notes = " ".join(filter(None, (table.notes, remarks_on_all(table))))
    return [tally(kinds(section)), table.source, *filter(None, [notes])]


def as_rich(section: Section, width: int) -> Group:
    """Lay out one table for a terminal of ``width`` characters, with its remarks as notes below."""
    headers, rows, notes = _with_notes(grid(section))
    figures = figures_table(headers, [list(map(_rich_cell, cells)) for cells in rows], width)
    table = section[0].table
    counted, *others = about(section)
    above, below = (heading(table), table.paper, counted, ""), ("", *notes, *others, "")
    return Group(*map(Text, above), figures, *map(Text, below))


def _with_notes(table: Grid) -> tuple[list[str], list[list[Cell]], list[str]]:
    """Return headers and rows with a last column of numbers, and the numbered remarks, where there are any."""
    if not any(table.remarks):
        return table.headers, table.rows, []
    numbers = count(1)
    marks = [str(next(numbers)) if text else "" for text in table.remarks]
    notes = [f"{mark} {text}" for mark, text in zip(marks, table.remarks, strict=True) if text]
    return [*table.headers, "note"], _with_column(table.rows, marks), [*notes, ""]


def _rich_cell(cell: Cell) -> Text:
    return Text(f"≠ {cell.text}", style="bold") if cell.differs else Text(cell.text)


def as_markdown(sections: Iterable[Section]) -> str:
    """Write each table as Markdown, with its heading and notes."""
    return "\n".join(markdown_section(section) for section in sections)


def markdown_section(section: Section) -> str:
    """Write one table as Markdown; figures that do not agree are bold."""
    plain = grid(section)
    headers, rows = _with_remarks(plain)
    align = "l" + "r" * (len(plain.headers) - 1) + "l" * (len(headers) - len(plain.headers))
    table = markdown_table(headers, rows, align)
    counted, source, *notes = about(section)
    return "\n\n".join([f"### {heading(section[0].table)}", f"{counted} · {source}", *notes, table]) + "\n"


def _with_remarks(table: Grid) -> tuple[list[str], list[list[Cell]]]:
    """Return headers and rows with a last column of remarks, where there are any."""
    if not any(table.remarks):
        return table.headers, table.rows
    return [*table.headers, "remarks"], _with_column(table.rows, table.remarks)


def _with_column(rows: Iterable[Sequence[Cell]], texts: Iterable[str]) -> list[list[Cell]]:
    return [[*cells, Cell(text)] for cells, text in zip(rows, texts, strict=True)]


def as_csv(sections: Iterable[Section]) -> str:
    """Write one line for each row of each table, with a column for each figure: published, computed, measured."""
    lines = [_flat(entry) for section in sections for entry in section]
    headers = list(dict.fromkeys(key for line in lines for key in line))
    return csv_text(headers, ([line.get(header) for header in headers] for line in lines))


def _flat(entry: Entry) -> dict[str, Any]:
    plain = entry.to_dict()
    line = {key: plain[key] for key in ("paper", "table", "row")} | {"overrides": " ".join(plain["overrides"])}
    for kind in ("published", "computed", "measured"):
        line |= {f"{kind}_{key}": _flat_value(value) for key, value in plain[kind].items()}
    line |= {key: _flat_value(plain[key]) for key in ("agrees", "external", "folded", "truncated")}
    return line | {"remarks": remark(entry)}


def _flat_value(value: Any) -> Any:
    return "; ".join(map(str, value)) if isinstance(value, list) else value


def as_json(sections: Iterable[Section]) -> str:
    """Write one list of all rows; see `Entry.to_dict`."""
    return json_text([entry.to_dict() for section in sections for entry in section])


FORMATS: dict[str, Callable[[Sequence[Section]], str]] = {
    "markdown": as_markdown,
    "csv": as_csv,
    "json": as_json,
}
