"""How a run is called in W&B: a name that can be read and tags to filter by, made of its choices and overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from efficientconv.runs.names import split_override
from efficientconv.runs.same_result import name_in_job

GROUPS = ("model", "conv", "data", "recipe")
"""Groups whose options are tags."""

IN_EVERY_NAME = ("model", "conv", "data")
LONGEST_NAME, LONGEST_TAG = 128, 64  # W&B refuses more


def run_name(config: Mapping[str, Any], overrides: Sequence[str]) -> str:
    """Return such as ``resnet56 bsconv_u cifar100 seed=1 recipe.optimizer.lr=0.1``.

    Args:
        config: the run's, resolved, with ``choices``.
        overrides: its command line; what changes no result is left out.
    """
    words = [*(_options(config)[group] for group in IN_EVERY_NAME), *_settings(config, overrides)]
    return " ".join(words)[:LONGEST_NAME].rstrip()


def run_tags(config: Mapping[str, Any], overrides: Sequence[str]) -> list[str]:
    """Return the options of the groups and the further settings, each once: ``[resnet56, bsconv_u, …, seed=1]``.

    Args:
        config: the run's, resolved, with ``choices``.
        overrides: its command line; what changes no result is left out.
    """
    words = [*_options(config).values(), *_settings(config, overrides)]
    return list(dict.fromkeys(word[:LONGEST_TAG] for word in words))


def _options(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the option of each group; of timm and torchvision it is the network's name that tells."""
    options = {group: str(config["choices"][group]) for group in GROUPS if config["choices"].get(group)}
    named = config["model"].get("name")
    return options | ({"model": f"{options['model']}.{named}"} if named else {})


def _settings(config: Mapping[str, Any], overrides: Sequence[str]) -> list[str]:
    """Return the words of the command line that change the result and are not among the options."""
    pairs = (split_override(word) for word in overrides)
    told = [
        f"{key}={value}" for key, value in pairs if key not in (*GROUPS, "model.name") and _matters(key, value, config)
    ]
    return sorted(told)


def _matters(key: str, value: str, config: Mapping[str, Any]) -> bool:
    return name_in_job(key, value, config["data"]) is not None
