"""The exceptions that end a command with one line for the user, and the words that their messages often need."""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable
from typing import Any


class UserError(Exception):
    """Something the user can put right: the message says what was wrong, and what would work."""


class Interrupted(BaseException):
    """The user or the system asked the run to stop; not an ``Exception``, so that it also ends a sweep.

    Attributes:
        signum: the signal.
        exit_code: of the process, 128 plus the signal's number.
        going_on: the command line that goes on with the run; ``None`` where no run had begun.

    Args:
        signum: the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum, self.exit_code = signum, 128 + signum
        self.going_on: str | None = None

    @property
    def line(self) -> str:
        """Return what the user reads: the signal, and the command line that goes on."""
        return f"interrupted ({self})" + (f"; to go on: {self.going_on}" if self.going_on else "")


def first_line(error: BaseException) -> str:
    """Return what an error says, on one line; its type where it says nothing."""
    text = str(error).strip()
    return text.splitlines()[0].strip() if text else type(error).__name__


def nearest_first(word: str, choices: Iterable[str], most: int | None = None) -> str:
    """List the right words for a wrong one in a message, those most like it first.

    Args:
        word: what the user wrote.
        choices: what would have been right.
        most: how many to list; ``None`` lists all.
    """
    names = list(choices)
    return ", ".join(difflib.get_close_matches(word, names, n=max(1, most or len(names)), cutoff=0.0))


def require_whole(name: str, value: Any, least: int) -> None:
    """Refuse ``name=value`` of the command line unless it is a whole number of at least ``least``.

    Raises:
        UserError: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"{name}={value}: must be a whole number of at least {least}")
