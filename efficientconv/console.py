"""Where tables for the user go: standard output, wide enough for whole names where it is no terminal."""

from __future__ import annotations

import sys

from rich.console import Console

WIDTH_OF_FILES = 120


def console() -> Console:
    """Return a console on standard output."""
    return Console(width=None if sys.stdout.isatty() else WIDTH_OF_FILES, highlight=False)
