"""The differences between a training and the one that a table publishes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from efficientconv.config_path import CONFIGS
from efficientconv.runs.dotted import flat
from efficientconv.runs.same_result import DEVICE_COUNTS, is_same_value
from efficientconv.tables.count.configurations import TRAINING, composed_training
from efficientconv.tables.load.table import Table

OF_EACH_RUN = {
    "data.seed",  # follows the run's seed, which has a column of its own
    "data.channels",  # follows the network's input
    "recipe.max_epochs",  # the default of trainer.max_epochs, which counts
}
"""Keys of a training that a published one does not fix."""


def differences(table: Table, training: Mapping[str, Any], devices: int) -> list[str]:
    """List the differences between a training and the published one, as overrides of the command line.

    Args:
        table: its overrides are the published ones, except for the groups in ``stand_ins``.
        training: the configuration of a run, or the result of `composed_training`.
        devices: number of devices; the configuration may have ``auto``. Each device takes a batch of its own, so that
            more devices mean a larger batch and fewer steps.

    Returns:
        The options of groups that differ, then the values that differ from those of the options.
    """
    published, choices = composed_training(table), training.get("choices", {})
    training = {**training, "trainer": {**training["trainer"], "devices": devices}}
    chosen = {group: f"{group}={choices.get(group)}" for group in ("data", "recipe", "callbacks")}
    other = [group for group in chosen if choices.get(group) != published["choices"][group]]
    shipped = [chosen[group] for group in other if (CONFIGS / group / f"{choices.get(group)}.yaml").is_file()]
    expected = composed_training(table, shipped) | {"trainer": published["trainer"]}
    named = [option for group, option in chosen.items() if group in other or group in table.stand_ins]
    return [*named, *_starts(training), *_changed_values(expected, training)]


def _starts(training: Mapping[str, Any]) -> list[str]:
    """List what a training began with, or learned from, that no published one has."""
    values = {key: training.get(key) for key in ("init_from", "teacher", "freeze")}
    near = training.get("conv", {}).get("initialize_from_replaced")
    told = {**values, "conv.initialize_from_replaced": near}
    return [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in told.items() if value]


def _changed_values(expected: Mapping[str, Any], training: Mapping[str, Any]) -> Iterator[str]:
    usual = flat({group: expected[group] for group in TRAINING})
    for key, value in flat({group: training[group] for group in TRAINING}).items():
        published = usual.get(key)
        follows = training["recipe"].get(key.removeprefix("data."), published)  # as the batch size does
        if value not in (published, follows) and not _is_immaterial(key, value, published, training["data"]):
            yield f"{key}={value if isinstance(value, str) else json.dumps(value)}"


def _is_immaterial(key: str, value: Any, published: Any, data: Mapping[str, Any]) -> bool:
    if key in DEVICE_COUNTS:
        return False
    return key in OF_EACH_RUN or is_same_value(key, value, published, data)
