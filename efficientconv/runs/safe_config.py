"""What a configuration found on disk may name: a run directory is data, and opening it must not run a stranger's code.

Hydra calls whatever a ``_target_`` names. From a stored configuration that is allowed only where this project's own
configurations name the same target, or where the target is a network, an optimizer or a schedule, by class, of this
project, torch, torchvision or timm. A prefix would not do: ``torch.load`` and ``torch.hub.load`` are torch's too.
Arguments that load something are emptied. Interpolations never get here: see ``RunDirectory.read_config``.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import yaml

from efficientconv.config_path import CONFIGS
from efficientconv.errors import UserError

LIBRARIES = ("efficientconv", "torch", "torchvision", "timm")
LOADING_ARGUMENTS = ("pretrained", "weights", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "hub")


def trust(node: Any, allow: Sequence[str] = (), where: str = "config.yaml") -> Any:
    """Return a copy of ``node`` without the arguments that load something, all of whose targets are trusted.

    Args:
        node: a stored configuration: dictionaries, lists and plain values.
        allow: packages whose targets the user trusts as well.
        where: the file, for the message.

    Raises:
        UserError: a target that is not trusted, or is no dotted name.
    """
    if isinstance(node, Mapping):
        if "_target_" in node and not _is_trusted(node["_target_"], allow):
            raise UserError(
                f"{where} names {node['_target_']!r}, which is not run from a stored configuration; if you trust it, "
                f"say allow=[{str(node['_target_']).partition('.')[0]}]"
            )
        return {
            key: None if key in LOADING_ARGUMENTS and value else trust(value, allow, where)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [trust(value, allow, where) for value in node]
    return node


def _is_trusted(target: Any, allow: Sequence[str]) -> bool:
    if not isinstance(target, str):
        return False
    return target in shipped_targets() or target.partition(".")[0] in allow or _is_building_block(target)


def _is_building_block(target: str) -> bool:
    from torch import nn, optim

    module, _, name = target.rpartition(".")
    if module.partition(".")[0] not in LIBRARIES:
        return False
    try:
        found = getattr(importlib.import_module(module), name, None)
    except Exception:  # a module that cannot be imported here builds nothing
        return False
    blocks = (nn.Module, optim.Optimizer, optim.lr_scheduler.LRScheduler)
    return isinstance(found, type) and issubclass(found, blocks)


@cache
def shipped_targets() -> frozenset[str]:
    """Return every ``_target_`` that the project's own configurations name."""
    files = CONFIGS.rglob("*.yaml")
    return frozenset(target for file in files for target in _targets(yaml.safe_load(file.read_text())))


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from _targets(value)
