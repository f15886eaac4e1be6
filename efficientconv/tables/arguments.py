"""The arguments of ``efficientconv tables``: the tool's own, as Hydra takes them, and those for training."""

from __future__ import annotations

import re
from collections.abc import Sequence

from efficientconv.runs.names import split_override

OWN_KEYS = ("table", "row", "format", "results", "save", "run")


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the command line into the arguments that compose this tool's configuration and those for training.

    An argument without ``=`` is a table's name.
    """
    own: list[str] = []
    others: list[str] = []
    tables: list[str] = []
    for argument in arguments:
        key, value = split_override(argument)
        if key.startswith("hydra"):
            own.append(argument)
        elif "=" not in argument:
            tables.append(argument)
        elif key in OWN_KEYS:
            own.append(_own_override(key, value))
        else:
            others.append(argument)
    return own + ([_own_override("table", ",".join(tables))] if tables else []), others


def _own_override(key: str, value: str) -> str:
    """Write an override so that Hydra reads names and paths literally, whatever characters they have.

    ``table=`` becomes ``tables=``, since Hydra would take the former for an option of the group ``configs/table``.
    """
    if key in ("table", "results"):
        value = list_value(value)
    if key in ("row", "save"):
        value = text_value(value)
    return f"{'tables' if key == 'table' else key}={value}"


def list_value(text: str) -> str:
    """Write texts separated by commas as a list in Hydra's grammar; return a list as it is."""
    return text if _is_quoted(text, '"', "'", "[") else f"[{','.join(map(quoted, text.split(',')))}]"


def text_value(text: str) -> str:
    """Write a text as a quoted text in Hydra's grammar; return a quoted text as it is."""
    return text if _is_quoted(text, '"', "'") else quoted(text)


def _is_quoted(value: str, *quotes: str) -> bool:
    """Tell whether a value is quoted for Hydra's grammar already."""
    return len(value) > 1 and value[0] in quotes and value[-1] == value[0].replace("[", "]")


def quoted(text: str) -> str:
    """Put a text in double quotes, where Hydra reads a backslash as an escape only before a quote."""
    escaped = re.sub(r'(\\+)("|$)', r"\1\1\2", text).replace('"', '\\"')
    return f'"{escaped}"'
