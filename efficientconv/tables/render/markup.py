"""Rows of cells as Markdown, CSV, JSON and HTML, whatever their content."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

_STYLE = "body{font-family:sans-serif}table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:2px 6px}"


class Cell(NamedTuple):
    """A cell's text, of one or several lines, and whether it is a figure that differs from the published one."""

    text: str
    differs: bool = False


def markdown_table(headers: Iterable[str], rows: Iterable[Iterable[Cell]], align: str) -> str:
    """Write a table; cells that differ are bold.

    Args:
        headers: of the columns.
        rows: a cell for each column.
        align: a letter for each column: ``l`` for text, at the left, or ``r`` for figures, at the right.
    """
    rule = ({"l": "---", "r": "---:"}[letter] for letter in align)
    lines = ((f"**{cell.text}**" if cell.differs else cell.text for cell in row) for row in rows)
    return "\n".join(map(markdown_line, (headers, rule, *lines)))


def markdown_line(texts: Iterable[str]) -> str:
    """Write one line of a table, without the characters that would end a cell or the line."""
    return f"| {' | '.join(text.replace('|', '/').replace(chr(10), ' ') for text in texts)} |"


def csv_text(headers: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Write a line of headers and one for each row; None becomes an empty value."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([headers, *rows])
    return out.getvalue()


def json_text(plain: Any) -> str:
    """Write plain data, indented, with a line break at the end."""
    return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"


def html_page(body: str) -> str:
    """Write a self-contained page."""
    head = f'<head><meta charset="utf-8"><title>Published tables</title><style>{_STYLE}</style></head>'
    return f"<!DOCTYPE html>\n<html>{head}<body>\n{body}\n</body></html>\n"


def html_table(headers: Sequence[str], rows: Iterable[Iterable[Cell]]) -> str:
    """Write a table; cells that differ are bold."""
    lines = [
        "".join(_html_element("th", header) for header in headers),
        *("".join(map(_html_cell, row)) for row in rows),
    ]
    return "\n".join(["<table>", *(f"<tr>{line}</tr>" for line in lines), "</table>"])


def _html_cell(cell: Cell) -> str:
    return f"<td><b>{_html_text(cell.text)}</b></td>" if cell.differs else _html_element("td", cell.text)


def _html_element(tag: str, text: str) -> str:
    return f"<{tag}>{_html_text(text)}</{tag}>"


def _html_text(text: str) -> str:
    return html.escape(text).replace("\n", "<br>")
