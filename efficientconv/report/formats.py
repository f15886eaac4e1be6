"""A report as text for a terminal, as Markdown and as CSV."""

from __future__ import annotations

import io

from rich.console import Console, Group
from rich.text import Text

from efficientconv.console import WIDTH_OF_FILES, figures_table
from efficientconv.report.cells import Cell, grid, notes
from efficientconv.report.table import Report, Row
from efficientconv.tables.render import markup

_STYLES = {1: "bold", 2: "underline", None: ""}


def as_rich(report: Report, width: int) -> Group:
    """Lay out a report for a terminal of ``width`` characters: the best accuracy of each block in bold."""
    headers, rows = grid(report)
    first, options = len(report.columns), [_named(cells, len(report.columns)) for cells in rows]
    texts = [
        [Text(name), *(Text(cell.text, _STYLES[cell.rank]) for cell in cells[first:])]
        for name, cells in zip(options, rows, strict=True)
    ]
    table = figures_table([" · ".join(report.columns), *headers[first:]], texts, width)
    for number, (row, after) in enumerate(zip(report.rows, report.rows[1:], strict=False)):
        table.rows[number].end_section = row.block != after.block
    return Group(table, Text(), *map(Text, notes(report)))


def as_plain_text(report: Report) -> str:
    """Write what a terminal of the usual width of files would show."""
    screen = Console(width=WIDTH_OF_FILES, file=io.StringIO(), highlight=False, markup=False)
    with screen.capture() as captured:
        screen.print(as_rich(report, WIDTH_OF_FILES), crop=False)
    return captured.get()


def _named(cells: list[Cell], options: int) -> str:
    return " · ".join(cell.text or "–" for cell in cells[:options])


def as_markdown(report: Report) -> str:
    """Write a table, the best accuracy of each block in bold, and the notes as a list."""
    headers, rows = grid(report)
    align = "l" * len(report.columns) + "r" * (len(headers) - len(report.columns))
    cells = [[markup.Cell(cell.text, differs=cell.rank == 1) for cell in row] for row in rows]
    lines = "\n".join(f"- {note}" for note in notes(report))
    return f"{markup.markdown_table(headers, cells, align)}\n\n{lines}\n"


def as_csv(report: Report) -> str:
    """Write one line for each row, its figures to seven digits: accuracies are stored in single precision."""
    lines = [_plain(report, row) for row in report.rows]
    return markup.csv_text(list(lines[0]), (map(_seven_digits, line.values()) for line in lines))


def _seven_digits(value: object) -> object:
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _plain(report: Report, row: Row) -> dict[str, object]:
    """Return a row's figures; accuracies in per cent, the difference in percentage points."""
    compared = row.comparison
    return {
        "setting": report.number(row),
        **row.configuration.options,
        "metric": report.metric,
        "top1_mean": row.mean,
        "top1_std": row.std,
        "n": len(row.top1),
        "seeds": " ".join(map(str, row.top1)),
        "baseline": report.baseline if compared or row.is_baseline else None,
        "difference": compared and compared.difference,
        "common_seeds": compared and len(compared.seeds),
        "low": compared and compared.low,
        "high": compared and compared.high,
        "p": compared and compared.p,
        "p_holm": row.p,
        "params": row.params,
        "macs": row.macs,
        "images_per_second": row.images_per_second,
        **{f"milliseconds_{form}": row.latencies.get(form) for form in report.forms},
    }
