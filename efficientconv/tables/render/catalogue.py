"""The list of all tables, in every format of the tables."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.table import Column
from rich.table import Table as RichTable

from efficientconv.console import console
from efficientconv.tables.load.files import load_table, table_names
from efficientconv.tables.render.markup import Cell, csv_text, html_page, html_table, json_text, markdown_table

HEADERS = ("table", "paper", "title", "rows")


def print_list(format: str) -> None:
    """Print the list as ``text``, ``markdown``, ``csv``, ``json`` or ``html``."""
    lines = list(_lines())
    if format == "text":
        console().print(_as_rich(lines))
    else:
        write = {"markdown": _as_markdown, "csv": _as_csv, "json": _as_json, "html": _as_html}[format]
        sys.stdout.write(write(lines))


def _lines() -> Iterator[tuple[str, str, str, int]]:
    for name in table_names():
        table = load_table(name)
        yield name, table.paper.partition(":")[0], table.title, len(table.rows)


def _as_rich(lines: Iterable[Sequence[object]]) -> RichTable:
    columns = [Column(header, overflow="fold") for header in HEADERS]
    columns[0].no_wrap = True  # users type this name
    columns[-1].justify = "right"
    table = RichTable(*columns, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for line in lines:
        table.add_row(*map(str, line))
    return table


def _as_markdown(lines: Iterable[Sequence[object]]) -> str:
    return markdown_table(HEADERS, map(_cells, lines), "lllr") + "\n"


def _as_csv(lines: Iterable[Sequence[object]]) -> str:
    return csv_text(HEADERS, lines)


def _as_json(lines: Iterable[Sequence[object]]) -> str:
    return json_text([dict(zip(HEADERS, line, strict=True)) for line in lines])


def _as_html(lines: Iterable[Sequence[object]]) -> str:
    return html_page(html_table(HEADERS, map(_cells, lines)))


def _cells(line: Sequence[object]) -> list[Cell]:
    return [Cell(str(value)) for value in line]
