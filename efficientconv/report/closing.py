"""What ends a sweep: its report, where there is something to compare, and the line that makes a page of it."""

from __future__ import annotations

import shlex
from pathlib import Path

from efficientconv.console import console
from efficientconv.errors import UserError
from efficientconv.report.configurations import configurations
from efficientconv.report.formats import as_rich
from efficientconv.report.runs import find_runs
from efficientconv.report.table import build_report


def print_report(folder: Path) -> None:
    """Print the report of a sweep whose finished runs are of more than one configuration; else nothing.

    Args:
        folder: of the sweep.
    """
    try:
        found = find_runs([folder])
    except UserError:  # nothing is finished
        return
    if len(configurations(found.runs)) < 2:
        return
    screen = console()
    report = build_report(found.runs, (), None, "last", found.left_out())
    screen.print(as_rich(report, screen.width), crop=False)
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    screen.print(shlex.join(["efficientconv", "report", str(shown), "format=html"]), soft_wrap=True)
