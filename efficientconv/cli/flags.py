"""Hydra's flags: which the tools take, and one line for a word that looks like a flag and is none."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from efficientconv.errors import UserError, nearest_first

OF_SINGLE_TOOLS = ("--help", "--cfg", "--resolve", "--package", "--config-dir")
OF_TRAINING = (
    *OF_SINGLE_TOOLS,
    "--multirun",
    "--run",
    "--info",
    "--config-name",
    "--config-path",
    "--hydra-help",
    "--shell-completion",
    "--experimental-rerun",
    "--version",
)
SHORT = {
    "-h": "--help",
    "-c": "--cfg",
    "-p": "--package",
    "-cd": "--config-dir",
    "-m": "--multirun",
    "-r": "--run",
    "-i": "--info",
    "-cn": "--config-name",
    "-cp": "--config-path",
    "-sc": "--shell-completion",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def single_parser() -> argparse.ArgumentParser:
    """Return the parser of a tool that does one thing: some of Hydra's flags, and words."""
    parser = _Parser(prog="efficientconv", add_help=False)
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--cfg", "-c", choices=("job", "hydra", "all"))
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("--package", "-p")
    parser.add_argument("--config-dir", "-cd")
    parser.add_argument("words", nargs="*")
    return parser


def require_flags(words: Sequence[str], known: Sequence[str], tool: str) -> None:
    """Refuse a word that begins with a dash and is no flag of the tool.

    Raises:
        UserError: names the word, and the override or the flag that was meant.
    """
    for word, following in zip(words, [*words, ""][1:], strict=True):
        name, _, value = word.partition("=")
        if not name.startswith("-"):
            continue
        flag = SHORT.get(name) or next((flag for flag in OF_TRAINING if flag.startswith(name) and len(name) > 2), None)
        if flag in known:
            continue
        if flag == "--multirun":
            raise UserError(f"{word}: efficientconv {tool} is one job; sweeps are for train")
        if flag is not None:
            raise UserError(f"{word}: efficientconv {tool} has no such flag; it has {', '.join(known)}")
        value = value or ("" if following.startswith("-") or "=" in following else following)
        if value:
            raise UserError(f"{word}: there is no such flag; keys are given without dashes: {name.lstrip('-')}={value}")
        raise UserError(f"{word}: there is no such flag; nearest first: {nearest_first(name, known)}")
