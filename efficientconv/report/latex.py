"""A report as a LaTeX table to paste: booktabs, the best accuracy of each block in bold, the second underlined."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from efficientconv.report.cells import MINUS, Cell, grid, notes
from efficientconv.report.table import Report

_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    MINUS: "$-$",
    "<": "$<$",
    ">": "$>$",
    "…": r"\dots{}",
    "[": "{[}",  # behind the end of a line it would begin an argument
}
_RANKED = {1: r"\textbf{%s}", 2: r"\underline{%s}", None: "%s"}


def as_latex(report: Report) -> str:
    """Write the table; the notes, which a caption has to tell, are comments above it."""
    headers, rows = grid(report)
    options = len(report.columns)
    align = "l" * options + "r" * (len(headers) - options)
    lines = [*(f"% {note}" for note in notes(report)), r"% \usepackage{booktabs}", rf"\begin{{tabular}}{{{align}}}"]
    lines += [
        r"  \toprule",
        _line("$p$" if header == "p" else escaped(header) for header in headers),
        r"  \midrule",
        *_body(report, rows),
        r"  \bottomrule",
    ]
    return "\n".join([*lines, r"\end{tabular}"]) + "\n"


def _body(report: Report, rows: Sequence[Sequence[Cell]]) -> list[str]:
    """Write the rows, with a rule between blocks."""
    blocks = [row.block for row in report.rows]
    found: list[str] = []
    for number, cells in enumerate(rows):
        if number and blocks[number] != blocks[number - 1]:
            found.append(r"  \midrule")
        found.append(_line(_RANKED[cell.rank] % escaped(cell.text) for cell in cells))
    return found


def _line(texts: Iterable[str]) -> str:
    return f"  {' & '.join(texts)} \\\\"


def escaped(text: str) -> str:
    """Write text so that LaTeX prints it as it is."""
    return re.sub("|".join(map(re.escape, _SPECIAL)), lambda found: _SPECIAL[found[0]], text)
