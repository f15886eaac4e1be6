"""The arguments of ``efficientconv tables``: the tool's own, as Hydra takes them, and those for training."""

from __future__ import annotations

import re
from collections.abc import Sequence

from efficientconv.errors import UserError
from efficientconv.runs.names import split_override

OWN_KEYS = ("table", "row", "format", "results", "save", "run")
_FLAGS = ("--cfg", "--config-dir", "--config-name", "--config-path", "--info", "--package")
FLAGS_WITH_VALUE = (*_FLAGS, "-c", "-cd", "-cn", "-cp", "-i", "-p")


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the command line into the arguments that compose this tool's configuration and those for training.

    An argument without ``=`` is a table's name, unless it is the value of the flag before it.

    Raises:
        UserError: Hydra's flag for several jobs.
    """
    for argument in arguments:
        if argument == "-m" or (len(argument) > 2 and "--multirun".startswith(argument)):  # Hydra takes shortened flags
            several = "several rows are a glob pattern, row='*ResNet*', and several tables stand between commas"
            raise UserError(f"{argument}: efficientconv tables is one job; {several}")
    own: list[str] = []
    others: list[str] = []
    tables: list[str] = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        key, value = split_override(argument)
        if argument.startswith("-") or before in FLAGS_WITH_VALUE or key.startswith("hydra"):
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
    return text if _is_quoted(text, '"', "'", "[") else f"[{','.join(map(_quoted, text.split(',')))}]"


def text_value(text: str) -> str:
    """Write a text as a quoted text in Hydra's grammar; return a quoted text as it is."""
    return text if _is_quoted(text, '"', "'") else _quoted(text)


def _is_quoted(value: str, *quotes: str) -> bool:
    """Tell whether a value is quoted for Hydra's grammar already."""
    return len(value) > 1 and value[0] in quotes and value[-1] == value[0].replace("[", "]")


def _quoted(text: str) -> str:
    """Put a text in double quotes, where Hydra reads a backslash as an escape only before a quote."""
    escaped = re.sub(r'(\\+)("|$)', r"\1\1\2", text).replace('"', '\\"')
    return f'"{escaped}"'
