"""The sweep that trains a row: the overrides of ``train -m``, the jobs that they make, and their data sets."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from functools import cache
from itertools import product
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf.errors import OmegaConfBaseException

from efficientconv.errors import UserError
from efficientconv.messages import one_line
from efficientconv.runs.names import safe_name, split_override
from efficientconv.tables.count.configurations import composed_data, composed_training
from efficientconv.tables.load.overrides import group_of, key_of, merged
from efficientconv.tables.load.table import Row, Table


def sweep_overrides(table: Table, row: Row, overrides: Sequence[str]) -> list[str]:
    """Return the overrides of ``train -m`` that train one row with each of its table's seeds.

    Args:
        table: of the row.
        row: what to train.
        overrides: the user's own, which win over the table's; see `merged`. The name of the sweep has their
            ``trainer.devices``, since the names of its runs do not.
    """
    devices = [value for key, value in map(split_override, overrides) if key == "trainer.devices"]
    name = "-".join(["table", *table.name.split("/"), *(f"devices-{safe_name(value)}" for value in devices)])
    return merged([f"sweep={name}", _seeds(table), *table.of(row).overrides], overrides)


def trainings(table: Table, overrides: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Compose the trainings of the jobs of such a sweep, whatever the row.

    Yields:
        The seed, and the result of `composed_training`.

    Raises:
        UserError: the user's overrides do not compose.
        HydraException: an override is not in Hydra's grammar.
    """
    for job in jobs(merged([_seeds(table)], overrides)):
        seed = [split_override(each)[1] for each in job if _is_seed(each)][-1]
        yield seed, composed_training(table, [each for each in job if not _is_seed(each)])


def require_classes(table: Table, row: Row, overrides: Sequence[str]) -> None:
    """Refuse a data set of the user's choice that is present and has another number of classes than the table.

    Raises:
        UserError: the numbers differ; the message names the data set and both numbers. Or see `trainings`.
    """
    if not any(group_of(each) == "data" for each in overrides):
        return
    for _, training in trainings(table.of(row), overrides):
        classes = _known_classes(json.dumps(training["data"]))
        if classes not in (None, table.classes):
            chosen = f"data={training['choices']['data']}"
            text = f"has {classes} classes; must have {table.classes}, as the networks of {table.name}"
            raise UserError(f"{chosen}: {text}")


@cache
def _known_classes(data: str) -> int | None:
    """Return the number of classes of a data set; None for one that is not present, which training downloads."""
    try:
        with redirect_stdout(sys.stderr):
            data_set = instantiate(json.loads(data), _convert_="all")
            if not hasattr(data_set, "class_names"):
                data_set.load()
    except (HydraException, UserError):
        return None
    return data_set.num_classes


def fetch_data(overrides: Sequence[str]) -> str | None:
    """Download the data set of a training where it is not present yet.

    Returns:
        None where the data set is present now, else the reason in one line. Also None where the overrides do not
        compose to one data set: training fetches each of several, and reports a mistake itself.
    """
    return _fetch_data(tuple(each for each in overrides if group_of(each) in ("model", "data", "recipe")))


@cache
def _fetch_data(overrides: tuple[str, ...]) -> str | None:
    try:
        data = instantiate(composed_data(overrides), _convert_="all")
    except (HydraException, OmegaConfBaseException):
        return None
    try:
        with redirect_stdout(sys.stderr):
            data.prepare_data()
    except UserError as error:
        return one_line(error)
    return None


def outputs_of(overrides: Sequence[str]) -> str:
    """Return the directory that training with these overrides writes to."""
    given = {override.key_or_group: override.value() for override in _parsed(overrides)}
    return str(given.get("outputs", "outputs"))


def jobs(overrides: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the overrides of each job that ``train -m`` makes of these.

    Raises:
        HydraException: an override is not in Hydra's grammar.
    """
    return list(product(*map(_values, _parsed(overrides))))


def _parsed(overrides: Sequence[str]) -> list[Override]:
    return OverridesParser.create().parse_overrides(list(overrides))


def _values(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [str(override.input_line)]
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


def _seeds(table: Table) -> str:
    return f"seed={','.join(map(str, table.seeds))}"


def _is_seed(override: str) -> bool:
    return key_of(override) == "seed"
