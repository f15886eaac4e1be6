"""Checks shared by the backbones: each message names the argument, its value and the rule."""

from __future__ import annotations

import math
from collections.abc import Sequence


def check_count(name: str, value: int) -> None:
    """Raise ``ValueError`` unless ``value`` is a whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}={value!r}: must be a whole number of at least 1")


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise ``ValueError`` unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name}={value!r}: must be one of {', '.join(choices)}")


def check_layers(layers: Sequence[int], stages: int) -> None:
    """Raise ``ValueError`` unless ``layers`` holds one number of units for each of ``stages`` stages."""
    if len(layers) != stages or any(not isinstance(units, int) or units < 1 for units in layers):
        raise ValueError(
            f"layers={list(layers)}: must be {stages} whole numbers of at least 1, the units of each stage"
        )


def scale_channels(channels: int, width: float) -> int:
    """Return ``channels`` times ``width``, rounded down; raise ``ValueError`` where the result is 0."""
    if not isinstance(width, (int, float)) or isinstance(width, bool) or not 0 < width < math.inf:
        raise ValueError(f"width={width!r}: must be a multiplier above 0")
    scaled = int(channels * width)
    if scaled < 1:
        raise ValueError(f"width={width}: leaves none of {channels} channels; must be at least 1/{channels}")
    return scaled
