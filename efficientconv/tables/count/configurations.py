"""From a table's overrides to configurations, as the command line would compose them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from efficientconv.config_path import CONFIGS
from efficientconv.errors import UserError
from efficientconv.messages import one_line
from efficientconv.tables.load.files import TABLES
from efficientconv.tables.load.overrides import group_of, merged
from efficientconv.tables.load.table import Row, Table

NETWORK = ("model", "conv")
TRAINING = ("data", "recipe", "trainer", "callbacks")


def composed_network(table: Table, row: Row) -> dict[str, Any]:
    """Return the resolved ``model`` and ``conv`` of a row.

    Raises:
        UserError: the overrides do not compose.
    """
    overrides = tuple(word for word in table.of(row).overrides if group_of(word) in NETWORK)
    try:
        return json.loads(_network(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise row_error(table, row, _reason(overrides, error, "profile")) from error


def composed_training(table: Table, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the resolved ``data``, ``recipe``, ``trainer`` and ``callbacks`` of a table, and its ``choices``.

    Args:
        table: its overrides are those of every row; see `Table.of`.
        overrides: further ones, which win over the table's; see `merged`.

    Raises:
        UserError: they do not compose.
    """
    words = _training_words(merged(table.overrides, overrides))
    try:
        return json.loads(_training(words))
    except (HydraException, OmegaConfBaseException) as error:
        if overrides:
            raise UserError(one_line(error, "train", words)) from error
        raise UserError(f"{TABLES / table.name}.yaml: overrides: {_reason(words, error, 'train')}") from error


def require_training(table: Table, row: Row) -> None:
    """Refuse a row whose training does not compose.

    Raises:
        UserError: names the file, the row and the reason.
    """
    words = _training_words(table.of(row).overrides)
    try:
        _training(words)
    except (HydraException, OmegaConfBaseException) as error:
        raise row_error(table, row, _reason(words, error, "train")) from error


def composed_data(overrides: Sequence[str]) -> dict[str, Any]:
    """Return the resolved ``data`` of a training.

    Raises:
        HydraException: the overrides do not compose.
        OmegaConfBaseException: likewise.
    """
    return _plain(_composed("train", overrides), ["data"])["data"]


def row_error(table: Table, row: Row, text: str) -> UserError:
    """Return an error that names the file and the row."""
    return UserError(f"{TABLES / table.name}.yaml: row {row.name!r}: {text}")


def _training_words(overrides: Sequence[str]) -> tuple[str, ...]:
    return tuple(word for word in overrides if group_of(word) not in NETWORK)


def _reason(words: Sequence[str], error: Exception, tool: str) -> str:
    return f"{list(words)} does not compose: {one_line(error, tool, words)}"


@cache
def _network(overrides: tuple[str, ...]) -> str:
    return json.dumps(_plain(_composed("profile", overrides), NETWORK))


@cache
def _training(overrides: tuple[str, ...]) -> str:
    config = _composed("train", overrides)
    choices = {group: option for group, option in config.hydra.runtime.choices.items() if group in TRAINING}
    return json.dumps(_plain(config, TRAINING) | {"choices": choices})


def _composed(root: str, overrides: Sequence[str]) -> DictConfig:
    GlobalHydra.instance().clear()  # that of the command line's own job, where there is one: it has done its work
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(root, overrides=list(overrides), return_hydra_config=True)


def _plain(config: DictConfig, keys: Sequence[str]) -> dict[str, Any]:
    return {key: OmegaConf.to_container(config[key], resolve=True) for key in keys}
