"""Words that set values of configurations, in Hydra's grammar."""

from __future__ import annotations

from collections.abc import Sequence

from efficientconv.runs.names import split_override


def group_of(word: str) -> str:
    """Return the group or first key that an override is about: ``+model.kwargs.drop=0.1`` → ``model``."""
    return split_override(word)[0].partition(".")[0]


def merged(words: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """Return words of a command line with others behind them that win.

    Those go that the others replace: the same key, or where both choose an option of a group, all keys of it.
    """
    replaced = {split_override(word)[0] for word in words} & {split_override(word)[0] for word in overrides}
    return [*(word for word in words if not replaced & {split_override(word)[0], group_of(word)}), *overrides]
