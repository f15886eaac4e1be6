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

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a tenth of the time, where PyYAML was built with libyaml


def safe_config(node: Any, allow: Sequence[str] = (), where: str = "config.yaml") -> Any:
    """Return a copy of a stored configuration that is safe to instantiate: known targets, and nothing loaded.

    Args:
        node: dictionaries, lists and plain values.
        allow: packages whose targets the user trusts as well.
        where: the file, for the message.

    Raises:
        UserError: see `require_safe_targets`.
    """
    require_safe_targets(node, allow, where)
    return without_loading(node)


def require_safe_targets(node: Any, allow: Sequence[str] = (), where: str = "config.yaml") -> None:
    """Refuse a stored configuration that names what this module does not let run.

    Args:
        node: dictionaries, lists and plain values.
        allow: packages whose targets the user trusts as well.
        where: the file, for the message.

    Raises:
        UserError: a target that is not known, or is no dotted name.
    """
    if isinstance(node, Mapping) and "_target_" in node and not _is_safe(node["_target_"], allow):
        raise UserError(
            f"{where} names {node['_target_']!r}, which is not run from a stored configuration; if you trust it, "
            f"say allow=[{str(node['_target_']).partition('.')[0]}]"
        )
    children = node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ()
    for child in children:
        require_safe_targets(child, allow, where)


def packages_to_allow(node: Any) -> list[str]:
    """List the packages that ``allow=`` must name before a configuration is run again once it is stored."""
    return sorted({target.partition(".")[0] for target in _targets(node) if not _is_safe(target, ())})


def without_loading(node: Any) -> Any:
    """Return a copy of a configuration whose arguments that load something are empty.

    For a network whose weights come from a checkpoint anyway; what is written to config.yaml keeps them.
    """
    if isinstance(node, Mapping):
        return {key: None if _loads(key, value) else without_loading(value) for key, value in node.items()}
    return [without_loading(value) for value in node] if isinstance(node, list) else node


def loading_arguments(node: Any, prefix: str = "") -> list[str]:
    """List what a configuration loads, as ``key=value`` with dotted keys."""
    if isinstance(node, list):
        node = dict(enumerate(node))
    if not isinstance(node, Mapping):
        return []
    loading: list[str] = []
    for key, value in node.items():
        dotted = f"{prefix}.{key}" if prefix else str(key)
        loading += [f"{dotted}={value}"] if _loads(key, value) else loading_arguments(value, dotted)
    return loading


def _loads(key: Any, value: Any) -> bool:
    return key in LOADING_ARGUMENTS and bool(value)


def _is_safe(target: Any, allow: Sequence[str]) -> bool:
    if not isinstance(target, str):
        return False
    return target in shipped_targets() or target.partition(".")[0] in allow or _is_building_block(target)


def _is_building_block(target: str) -> bool:
    from torch import nn, optim

    module, _, name = target.rpartition(".")
    if module.partition(".")[0] not in LIBRARIES:
        return False
    try:
        block = getattr(importlib.import_module(module), name, None)
    except Exception:  # a module that cannot be imported here builds nothing
        return False
    blocks = (nn.Module, optim.Optimizer, optim.lr_scheduler.LRScheduler)
    return isinstance(block, type) and issubclass(block, blocks)


@cache
def shipped_targets() -> frozenset[str]:
    """Return every ``_target_`` that the project's own configurations name."""
    files = CONFIGS.rglob("*.yaml")
    return frozenset(target for file in files for target in _targets(yaml.load(file.read_text(), Loader=_LOADER)))


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from _targets(value)
