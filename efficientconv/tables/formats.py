"""Tables as text for a terminal, Markdown, CSV, JSON and HTML: the same figures in all of them."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.console import Group
from rich.text import Text

from efficientconv.console import figures_table
from efficientconv.tables.cells import grid, remark, remarks_on_all
from efficientconv.tables.entries import Entry, kinds, tally
from efficientconv.tables.table import Table

Section = Sequence[Entry]
"""The entries of one table, one at least."""


def heading(table: Table) -> str:
    """Return a table's heading, its name first: titles alone do not tell tables apart."""
    return f"{table.name}: {table.title}"


def about(section: Section) -> list[str]:
    """Return what there is to know of a table: how many rows come out, where it is from, its notes."""
    table = section[0].table
    notes = " ".join(filter(None, (table.notes, remarks_on_all(table))))
    return [tally(kinds(section)), table.source, *filter(None, [notes])]


def as_rich(section: Section, width: int) -> Group:
    """Lay out one table for a terminal of ``width`` characters, with its remarks as notes below."""
    headers, rows = grid(section)
    remarks = _number_remarks(headers, rows)
    found = figures_table(headers, [[_rich_cell(cell) for cell in cells] for cells in rows], width)
    table = section[0].table
    counted, *others = about(section)
    above, below = (heading(table), table.paper, counted, ""), ("", *remarks, *others, "")
    return Group(*map(Text, above), found, *map(Text, below))


def _number_remarks(headers: list[str], rows: list[list[str]]) -> list[str]:
    remarks: list[str] = []
    if headers[-1] == "remarks":
        headers[-1] = "note"
        for cells in filter(lambda cells: cells[-1], rows):
            remarks.append(f"{len(remarks) + 1} {cells[-1]}")
            cells[-1] = str(len(remarks))
        remarks.append("")
    return remarks


def _rich_cell(cell: str) -> Text:
    return Text(f"≠ {cell[2:-2]}", style="bold") if _is_bold(cell) else Text(cell)


def _is_bold(cell: str) -> bool:
    return cell.startswith("**") and cell.endswith("**")


def as_markdown(sections: Iterable[Section]) -> str:
    """Write a heading, what there is to know, and a table for each."""
    return "\n".join(markdown_section(section) for section in sections)


def markdown_section(section: Section) -> str:
    """Write one table as Markdown; figures that do not come out are bold."""
    headers, rows = grid(section)
    rule = ("---" if header in ("row", "remarks") else "---:" for header in headers)
    lines = [markdown_line(headers), markdown_line(rule), *map(markdown_line, rows)]
    counted, source, *notes = about(section)
    return "\n\n".join([f"### {heading(section[0].table)}", f"{counted} · {source}", *notes, "\n".join(lines)]) + "\n"


def markdown_line(cells: Iterable[str]) -> str:
    """Write one line of a table."""
    return f"| {' | '.join(cell.replace('|', '/').replace(chr(10), ' ') for cell in cells)} |"


def as_csv(sections: Iterable[Section]) -> str:
    """Write one line for each row of each table, with a column for each figure: published, computed, measured."""
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
        line |= {f"{kind}_{key}": _flat_value(value) for key, value in plain[kind].items()}
    line |= {key: _flat_value(plain[key]) for key in ("agrees", "external", "folded", "truncated")}
    return line | {"remarks": remark(entry)}


def _flat_value(value: Any) -> Any:
    return "; ".join(map(str, value)) if isinstance(value, list) else value


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
    headers, rows = grid(section)
    texts = (section[0].table.paper, *about(section))
    intro = [f"<h2>{html.escape(heading(section[0].table))}</h2>", *(f"<p>{html.escape(text)}</p>" for text in texts)]
    lines = [_html_line("th", headers), *(_html_line("td", row) for row in rows)]
    return "\n".join([*intro, "<table>", *lines, "</table>"])


def _html_line(tag: str, cells: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{_html_cell(cell)}</{tag}>' for cell in cells)}</tr>"


def _html_cell(cell: str) -> str:
    return f"<b>{html.escape(cell[2:-2])}</b>" if _is_bold(cell) else html.escape(cell).replace("\n", "<br>")


FORMATS: dict[str, Callable[[Sequence[Section]], str]] = {
    "markdown": as_markdown,
    "csv": as_csv,
    "json": as_json,
    "html": as_html,
}
