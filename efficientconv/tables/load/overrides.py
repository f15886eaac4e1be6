"""Overrides: the arguments of the command line that set values of configurations, in Hydra's grammar."""

from __future__ import annotations

from collections.abc import Sequence

from efficientconv.runs.names import split_override


def group_of(override: str) -> str:
    """Return the group or the first key that an override sets: ``+model.kwargs.drop=0.1`` → ``model``."""
    return key_of(override).partition(".")[0]


def key_of(override: str) -> str:
    """Return the key that an override sets: ``+model.kwargs.drop=0.1`` → ``model.kwargs.drop``."""
    return split_override(override)[0]


def merged(base: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """Return the overrides ``base`` and behind them ``overrides``, which win.

    An override of ``base`` is dropped where ``overrides`` set the same key, or where both lists choose an option of its
    group.
    """
    replaced = set(map(key_of, base)) & set(map(key_of, overrides))
    return [*(each for each in base if not replaced & {key_of(each), group_of(each)}), *overrides]
