"""The one exception whose message is meant for the user and shown alone, and the words that it often needs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class UserError(Exception):
    """Something the user can put right: the message says what was wrong, and what would work."""


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
