"""The words behind ``efficientconv tables``: which are the tool's own, and how Hydra is given them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from efficientconv.runs.names import split_override

OWN_KEYS = ("table", "row", "format", "results", "save", "run")


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part the command line into the words of which Hydra composes this tool's configuration, and those for training.

    Words without ``=`` are tables' names.
    """
    own: list[str] = []
    others: list[str] = []
    tables: list[str] = []
    for word in words:
        key, value = split_override(word)
        if key.startswith("hydra"):
            own.append(word)
        elif "=" not in word:
            tables.append(word)
        elif key in OWN_KEYS:
            own.append(_own_word(key, value))
        else:
            others.append(word)
    return own + ([_own_word("table", ",".join(tables))] if tables else []), others


def _own_word(key: str, value: str) -> str:
    """Write a word so that Hydra reads names and paths as they are, whatever letters they have.

    ``table=`` becomes ``tables=``: there is a folder of that name in ``configs``, for which Hydra would take it.
    """
    if key in ("table", "results"):
        value = list_value(value)
    if key in ("row", "save"):
        value = text_value(value)
    return f"{'tables' if key == 'table' else key}={value}"


def list_value(text: str) -> str:
    """Write texts with commas between them as Hydra's list of texts, unless that is what they are."""
    return text if _is_quoted(text, '"', "'", "[") else f"[{','.join(map(quoted, text.split(',')))}]"


def text_value(text: str) -> str:
    """Write a text as Hydra's quoted text, unless that is what it is."""
    return text if _is_quoted(text, '"', "'") else quoted(text)


def _is_quoted(value: str, *quotes: str) -> bool:
    """Tell whether a value is written in Hydra's grammar already."""
    return len(value) > 1 and value[0] in quotes and value[-1] == value[0].replace("[", "]")


def quoted(text: str) -> str:
    """Put a text in double quotes; backslashes count there only before a quote."""
    escaped = re.sub(r'(\\+)("|$)', r"\1\1\2", text).replace('"', '\\"')
    return f'"{escaped}"'
