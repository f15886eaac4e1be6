"""The words behind ``efficientconv tables``: which are the tool's own, and how Hydra is given them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from efficientconv.errors import UserError
from efficientconv.runs.names import split_override

OWN_KEYS = ("table", "row", "format", "results", "save", "run")
_FLAGS = ("--cfg", "--config-dir", "--config-name", "--config-path", "--info", "--package")
FLAGS_WITH_VALUE = (*_FLAGS, "-c", "-cd", "-cn", "-cp", "-i", "-p")


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part the command line into the words of which Hydra composes this tool's configuration, and those for training.

    Words without ``=`` are tables' names, unless they are the values of flags before them.

    Raises:
        UserError: Hydra's flag for several jobs.
    """
    for word in words:
        if word == "-m" or (len(word) > 2 and "--multirun".startswith(word)):  # Hydra's flags may be cut short
            several = "several rows are a glob pattern, row='*ResNet*', and several tables stand between commas"
            raise UserError(f"{word}: efficientconv tables is one job; {several}")
    own: list[str] = []
    others: list[str] = []
    tables: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        key, value = split_override(word)
        if word.startswith("-") or before in FLAGS_WITH_VALUE or key.startswith("hydra"):
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
    if key in ("table", "results") and not _is_quoted(value, '"', "'", "["):
        value = f"[{','.join(map(_quoted, value.split(',')))}]"
    if key in ("row", "save") and not _is_quoted(value, '"', "'"):
        value = _quoted(value)
    return f"{'tables' if key == 'table' else key}={value}"


def _is_quoted(value: str, *quotes: str) -> bool:
    """Tell whether a value is written in Hydra's grammar already."""
    return len(value) > 1 and value[0] in quotes and value[-1] == value[0].replace("[", "]")


def _quoted(text: str) -> str:
    """Put a text in double quotes; backslashes count there only before a quote."""
    escaped = re.sub(r'(\\+)("|$)', r"\1\1\2", text).replace('"', '\\"')
    return f'"{escaped}"'
