"""Where tables for the user go: standard output, wide enough for whole names where it is no terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH_OF_FILES = 120

MINUTE, HOUR = 60, 3600  # seconds

SHARED = "EFFICIENTCONV_SHARED_SCREEN"
"""Set in the environment of a job that is one of several on the screen, and of its ranks."""

NAME_WIDTH = 12
"""Characters that the names of a table of figures have at least; headers are folded for them."""


def console() -> Console:
    """Return a console on standard output, as wide as the terminal or as COLUMNS says; brackets are no markup."""
    is_told = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return Console(width=None if is_told else WIDTH_OF_FILES, highlight=False, markup=False)


def has_terminal() -> bool:
    """Tell whether somebody sits in front of a terminal that this process has for itself."""
    return sys.stderr.isatty() and not shares_screen()


def shares_screen() -> bool:
    """Tell whether this is one of several jobs on the screen, whose standard output is its log."""
    return SHARED in os.environ


def in_words(seconds: float) -> str:
    """Write a time as ``45 s``, ``12 min`` or ``2 h 05 min``."""
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    minutes = round(seconds / MINUTE)
    return f"{minutes} min" if seconds < HOUR else f"{minutes // 60} h {minutes % 60:02} min"


def figures_table(headers: Sequence[str], rows: Sequence[Sequence[Text]], width: int) -> Table:
    """Lay out a column of names and, right of it, columns of figures, for a terminal of ``width`` characters.

    Where it is narrow, headers and names are folded. Figures are not: where they alone need more, the table is wider,
    so it has to be printed with ``crop=False``.

    Args:
        headers: of several lines where they contain line breaks.
        rows: the cells, one row at least.
        width: of the terminal.
    """
    widths, gap = _column_widths(headers, rows, width)
    found = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, gap - 1, 0, 0),  # the box has one more
        width=sum(widths) + gap * (len(widths) - 1),
    )
    for number, (header, column_width) in enumerate(zip(headers, widths, strict=True)):
        found.add_column(header, justify="right" if number else "left", width=column_width, overflow="fold")
    for cells in rows:
        found.add_row(*cells)
    return found


def _column_widths(headers: Sequence[str], rows: Sequence[Sequence[Text]], width: int) -> tuple[list[int], int]:
    """Choose the widths of columns and of the gap between them.

    Every figure has its room. A header has room for its lines, else its words, else what its figures have; the names
    have the rest.
    """
    name, *cells = [max(text.cell_len for text in column) for column in zip(*rows, strict=True)]
    for parts, gap in ((str.splitlines, 2), (str.split, 2), (str.split, 1), (list, 1)):
        found = [max(cell, *map(cell_len, parts(header))) for cell, header in zip(cells, headers[1:], strict=True)]
        room = width - sum(found) - gap * len(found)
        if room >= min(name, NAME_WIDTH):
            break
    return [min(max(name, cell_len(headers[0])), max(room, NAME_WIDTH)), *found], gap
