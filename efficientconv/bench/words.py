"""The words behind ``efficientconv bench``, written as Hydra reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from efficientconv.config_path import CONFIGS
from efficientconv.errors import UserError
from efficientconv.runs.names import split_override
from efficientconv.tables.arguments import list_value, quoted, text_value

REFERENCE = "standard"
"""The convolution that all others stand beside."""

SIDE_BY_SIDE = ("layer", "model")
"""Benches of several convolutions at once."""

LISTS, NUMBERS = ("shapes", "forms", "dtypes", "formats", "plot"), ("batches",)


def hydra_words(words: Sequence[str]) -> list[str]:
    """Let the first word be the action and further ones files, write lists, and compose each convolution by itself.

    ``layer conv=bdrconv,spconv`` → ``action=layer +conv@convs.bdrconv=bdrconv +conv@convs.spconv=spconv``: one
    configuration holds them all, and ``conv.layer.…`` sets a value in each of them.
    """
    bare = [word for word in words if "=" not in word]
    action = bare[0] if bare else _value("action", words)
    found = [f"action={quoted(bare[0])}"] if bare else []
    if bare[1:]:
        found.append(f"files=[{','.join(map(quoted, bare[1:]))}]")
    named = _convs(words)
    convs = named if action in SIDE_BY_SIDE else []
    if len(named) > 2 and not convs and action:
        both = " and ".join(SIDE_BY_SIDE)
        raise UserError(
            f"conv={_value('conv', words)}: bench {action} measures one convolution; {both} measure several"
        )
    for word in words:
        if "=" in word:
            found += _of_each_conv(word, convs) if convs else [_own(word)]
    return found


def _own(word: str) -> str:
    """Write a list, or a file, so that Hydra reads it as it is."""
    key, _, value = word.partition("=")
    if value == "null":
        return word
    if key in NUMBERS:
        return f"{key}=[{value.strip('[]')}]"
    if key in LISTS:
        return f"{key}={list_value(value)}"
    return f"{key}={text_value(value)}" if key == "json" else word


def _value(key: str, words: Sequence[str]) -> str:
    """Return what is said of a key, or nothing."""
    return next((word.partition("=")[2] for word in words if word.startswith(f"{key}=")), "")


def _convs(words: Sequence[str]) -> list[str]:
    """Return what ``conv=`` names, behind what it stands beside; ``all`` are in the order of their files."""
    value = _value("conv", words)
    named = value.strip("[]").split(",") if value else []
    if named == ["all"]:
        named = sorted(file.stem for file in (CONFIGS / "conv").glob("*.yaml"))
    return list(dict.fromkeys([REFERENCE, *named])) if named else []


def _of_each_conv(word: str, convs: Sequence[str]) -> Iterator[str]:
    key, _ = split_override(word)
    if word.startswith("conv="):
        yield from (f"+conv@convs.{conv}={conv}" for conv in convs)
    elif key.startswith("conv."):
        yield from (word.replace("conv.", f"convs.{conv}.", 1) for conv in convs if conv != REFERENCE)
    else:
        yield _own(word)
