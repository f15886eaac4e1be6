"""A configuration by its dotted keys, as the command line names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten a configuration's nested dictionaries to dotted keys; lists are values."""
    if not isinstance(node, Mapping):
        return {prefix: node}
    leaves: dict[str, Any] = {}
    for key, value in node.items():
        leaves |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return leaves
