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

from efficientconv.config_path import CONFIGS, searchpath
from efficientconv.errors import UserError
from efficientconv.messages import one_line
from efficientconv.tables.load.files import table_file
from efficientconv.tables.load.overrides import group_of, merged
from efficientconv.tables.load.table import Row, Table

NETWORK = ("model", "conv")
TRAINING = ("data", "recipe", "trainer", "callbacks")


def composed_network(table: Table, row: Row) -> dict[str, Any]:
    """Return the resolved ``model`` and ``conv`` of a row.

    Raises:
        UserError: the overrides do not compose.
    """
    overrides = tuple(each for each in table.of(row).overrides if group_of(each) in NETWORK)
    try:
        return json.loads(_network(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise row_error(table, row, _reason(overrides, error, "profile")) from error


def composed_training(table: Table, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the resolved ``data``, ``recipe``, ``trainer`` and ``callbacks`` of a table, and its ``choices``.

    Args:
        table: with the overrides of every row, or of one; see `Table.of`.
        overrides: further overrides, which win over the table's; see `merged`.

    Raises:
        UserError: the overrides do not compose.
    """
    all_overrides = _training_overrides(merged(table.overrides, overrides))
    try:
        return json.loads(_training(all_overrides))
    except (HydraException, OmegaConfBaseException) as error:
        if overrides:
            raise UserError(one_line(error, "train", all_overrides)) from error
        raise UserError(f"{table_file(table.name)}: overrides: {_reason(all_overrides, error, 'train')}") from error


def require_training(table: Table, row: Row) -> None:
    """Refuse a row whose training does not compose.

    Raises:
        UserError: the training does not compose; the message names the file, the row and the reason.
    """
    overrides = _training_overrides(table.of(row).overrides)
    try:
        _training(overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise row_error(table, row, _reason(overrides, error, "train")) from error


def composed_data(overrides: Sequence[str]) -> dict[str, Any]:
    """Return the resolved ``data`` of a training.

    Raises:
        HydraException: the overrides do not compose.
        OmegaConfBaseException: likewise.
    """
    return _plain(_composed("train", [*searchpath(), *overrides]), ["data"])["data"]


def row_error(table: Table, row: Row, text: str) -> UserError:
    """Return an error that names the file and the row."""
    return UserError(f"{table_file(table.name)}: row {row.name!r}: {text}")


def _training_overrides(overrides: Sequence[str]) -> tuple[str, ...]:
    return tuple(each for each in overrides if group_of(each) not in NETWORK)


def _reason(overrides: Sequence[str], error: Exception, tool: str) -> str:
    return f"{list(overrides)} does not compose: {one_line(error, tool, overrides)}"


def _network(overrides: tuple[str, ...]) -> str:
    return _network_of((*searchpath(), *overrides))


@cache
def _network_of(words: tuple[str, ...]) -> str:
    return json.dumps(_plain(_composed("profile", words), NETWORK))


def _training(overrides: tuple[str, ...]) -> str:
    return _training_of((*searchpath(), *overrides))


@cache
def _training_of(words: tuple[str, ...]) -> str:
    config = _composed("train", words)
    choices = {group: option for group, option in config.hydra.runtime.choices.items() if group in TRAINING}
    return json.dumps(_plain(config, TRAINING) | {"choices": choices})


def _composed(root: str, words: Sequence[str]) -> DictConfig:
    GlobalHydra.instance().clear()  # the instance of the command line's own job, if any, has done its work
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(root, overrides=list(words), return_hydra_config=True)


def _plain(config: DictConfig, keys: Sequence[str]) -> dict[str, Any]:
    return {key: OmegaConf.to_container(config[key], resolve=True) for key in keys}
