"""How a training is not the one that a table publishes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from efficientconv.config_path import CONFIGS
from efficientconv.runs.directory import flat
from efficientconv.tables.count.configurations import TRAINING, composed_training
from efficientconv.tables.load.table import Table

_DATA_SETTINGS = ("root", "download", "cache_dir", "eval_batch_size", "seed", "loader", "workers")
NO_MATTER = {
    *(f"data.{name}" for name in _DATA_SETTINGS),
    *(f"trainer.{name}" for name in ("accelerator", "precision", "log_every_n_steps")),
    *(f"callbacks.checkpoints.{name}" for name in ("every_n_minutes", "every_n_steps")),
    "data.channels",  # as the network takes
    "recipe.max_epochs",  # the trainer's are what is trained
}
"""Keys of a training that change where and how fast, or nothing, but not what is measured."""


def differences(table: Table, training: Mapping[str, Any], devices: int) -> list[str]:
    """Say in words of the command line how a training is not the published one.

    Args:
        table: what it has of a group is published, unless it is a stand-in.
        training: the configuration of a run, or what `composed_training` returns.
        devices: how many it has, of which the configuration may say ``auto``. Each takes a batch of its own: more of
            them are a larger batch and fewer steps.

    Returns:
        The options of groups, then the values that are not those of the options.
    """
    published, choices = composed_training(table), training.get("choices", {})
    training = {**training, "trainer": {**training["trainer"], "devices": devices}}
    chosen = {group: f"{group}={choices.get(group)}" for group in ("data", "recipe", "callbacks")}
    other = [group for group in chosen if choices.get(group) != published["choices"][group]]
    shipped = [chosen[group] for group in other if (CONFIGS / group / f"{choices.get(group)}.yaml").is_file()]
    expected = composed_training(table, shipped) | {"trainer": published["trainer"]}
    named = [word for group, word in chosen.items() if group in other or group in table.stand_ins]
    is_folder = choices.get("data") == "image_folder"  # then the root says which images
    ignored = NO_MATTER - {"data.root"} if is_folder else NO_MATTER
    return [*named, *(word for key, word in _changed_values(expected, training) if key not in ignored)]


def _changed_values(expected: Mapping[str, Any], training: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    usual = flat({group: expected[group] for group in TRAINING})
    for key, value in flat({group: training[group] for group in TRAINING}).items():
        same = usual.get(key)
        follows = training["recipe"].get(key.removeprefix("data."), same)  # as the batch size does
        if value not in (same, follows):
            yield key, f"{key}={value if isinstance(value, str) else json.dumps(value)}"
