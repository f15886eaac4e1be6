"""Tables as text for a terminal, Markdown, CSV, JSON and HTML: the same cells in all of them."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from efficientconv.tables.entries import Entry, grid, tally

Section = Sequence[Entry]
"""The entries of one table, one at least."""


def as_rich(section: Section) -> Group:
    """Lay out one table for a terminal, with its remarks as notes below."""
    table = section[0].table
    found = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    headers, rows = grid(section)
    for header in headers:
        is_name = header == "row"
        found.add_column(header.replace("remarks", "note"), justify="left" if is_name else "right", no_wrap=is_name)
    notes: list[Text] = []
    for cells in rows:
        if headers[-1] == "remarks" and cells[-1]:
            notes.append(Text(f"{len(notes) + 1} {cells[-1]}"))
            cells[-1] = str(len(notes))
        found.add_row(*map(_rich_cell, cells))
    return Group(f"{table.name}: {table.title}", table.paper, tally(section), found, *notes, "")


def _rich_cell(cell: str) -> Text:
    return Text(f"≠ {cell[2:-2]}", style="bold") if _is_bold(cell) else Text(cell)


def _is_bold(cell: str) -> bool:
    return cell.startswith("**") and cell.endswith("**")


def as_markdown(sections: Iterable[Section]) -> str:
    """Write a heading, what there is to know, and a table for each."""
    return "\n".join(markdown_section(section) for section in sections)


def markdown_section(section: Section) -> str:
    """Write one table as Markdown; figures that do not come out are bold."""
    table = section[0].table
    lines = [f"### {table.title}", "", f"`table={table.name}` · {tally(section)} · {table.source}", ""]
    if table.notes:
        lines += [table.notes, ""]
    headers, rows = grid(section)
    lines += [_line(headers), _line("---" if header in ("row", "remarks") else "---:" for header in headers)]
    lines += map(_line, rows)
    return "\n".join([*lines, ""])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def as_csv(sections: Iterable[Section]) -> str:
    """Write one line for each row of each table, with a column for each figure: published (as printed), computed,
    measured.
    """  # noqa: D205
    lines = [_flat(entry) for section in sections for entry in section]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(key for line in lines for key in line)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def _flat(entry: Entry) -> dict[str, Any]:
    plain = entry.to_dict()
    line = {key: plain[key] for key in ("paper", "table", "row")} | {"overrides": " ".join(plain["overrides"])}
    for kind in ("published", "computed", "measured"):
        for key, value in plain[kind].items():
            line[f"{kind}_{key}"] = "; ".join(map(str, value)) if isinstance(value, list) else value
    return line | {"agrees": plain["agrees"], "external": plain["external"], "remarks": entry.remark()}


def as_json(sections: Iterable[Section]) -> str:
    """Write one list of all rows; see `Entry.to_dict`."""
    return (
        json.dumps([entry.to_dict() for section in sections for entry in section], indent=2, ensure_ascii=False) + "\n"
    )


def as_html(sections: Iterable[Section]) -> str:
    """Write one page that needs nothing else."""
    body = "\n".join(_html_section(section) for section in sections)
    style = "body{font-family:sans-serif}table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:2px 6px}"
    head = f'<head><meta charset="utf-8"><title>Published tables</title><style>{style}</style></head>'
    return f"<!DOCTYPE html>\n<html>{head}<body>\n{body}\n</body></html>\n"


def _html_section(section: Section) -> str:
    table = section[0].table
    intro = [f"<h2>{html.escape(table.title)}</h2>", f"<p>{html.escape(table.paper)}</p>"]
    intro += [f"<p>{html.escape(text)}</p>" for text in (tally(section), table.source, table.notes) if text]
    headers, rows = grid(section)
    lines = [_html_line("th", headers), *(_html_line("td", row) for row in rows)]
    return "\n".join([*intro, "<table>", *lines, "</table>"])


def _html_line(tag: str, cells: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{_html_cell(cell)}</{tag}>' for cell in cells)}</tr>"


def _html_cell(cell: str) -> str:
    return f"<b>{html.escape(cell[2:-2])}</b>" if _is_bold(cell) else html.escape(cell)


FORMATS: dict[str, Callable[[Sequence[Section]], str]] = {
    "markdown": as_markdown,
    "csv": as_csv,
    "json": as_json,
    "html": as_html,
}
