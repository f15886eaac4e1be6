"""The sweep that trains a row: the words behind ``train -m``, the jobs that they make, and whether their data fits."""

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
from efficientconv.tables.load.overrides import group_of, merged
from efficientconv.tables.load.table import Row, Table


def sweep_words(table: Table, row: Row, overrides: Sequence[str]) -> list[str]:
    """Return the words behind ``train -m`` that train one row with each of its table's seeds.

    Args:
        table: of the row.
        row: what to train.
        overrides: the user's own words, which win over the table's; see `merged`. Their ``trainer.devices`` are in the
            name of the sweep, since they are not in those of its runs.
    """
    devices = [value for key, value in map(split_override, overrides) if key == "trainer.devices"]
    name = "-".join(["table", *table.name.split("/"), *(f"devices-{safe_name(value)}" for value in devices)])
    return merged([f"sweep={name}", _seeds(table), *table.of(row).overrides], overrides)


def trainings(table: Table, overrides: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Compose how the jobs of such a sweep train, whatever the row.

    Yields:
        The seed, and what `composed_training` says of the rest.

    Raises:
        UserError: the user's words do not compose.
        HydraException: or are not of Hydra's grammar.
    """
    for job in jobs(merged([_seeds(table)], overrides)):
        seed = [split_override(word)[1] for word in job if _is_seed(word)][-1]
        yield seed, composed_training(table, [word for word in job if not _is_seed(word)])


def require_classes(table: Table, row: Row, overrides: Sequence[str]) -> None:
    """Refuse data that the user has chosen where it is there and has another number of classes than the table.

    Raises:
        UserError: names the data and both numbers; or see `trainings`.
    """
    if not any(group_of(word) == "data" for word in overrides):
        return
    for _, training in trainings(table.of(row), overrides):
        found = _known_classes(json.dumps(training["data"]))
        if found not in (None, table.classes):
            chosen = f"data={training['choices']['data']}"
            text = f"has {found} classes; the networks of {table.name} have {table.classes}, and so must the data"
            raise UserError(f"{chosen}: {text}")


@cache
def _known_classes(data: str) -> int | None:
    """Return how many classes a data set has; None where only training can tell, which fetches what is not there."""
    try:
        with redirect_stdout(sys.stderr):
            found = instantiate(json.loads(data), _convert_="all")
            if not hasattr(found, "class_names"):
                found.load()
    except (HydraException, UserError):
        return None
    return found.num_classes


def fetch_data(words: Sequence[str]) -> str | None:
    """Fetch the data set that words for training choose, where it is not there yet.

    Returns:
        None where it is there now; else a line that says why it cannot be had. Also None where the words do not make
        one data set: training takes several one by one, and says what is wrong with one that cannot be.
    """
    return _fetch_data(tuple(word for word in words if group_of(word) in ("model", "data", "recipe")))


@cache
def _fetch_data(words: tuple[str, ...]) -> str | None:
    try:
        data = instantiate(composed_data(words), _convert_="all")
    except (HydraException, OmegaConfBaseException):
        return None
    try:
        with redirect_stdout(sys.stderr):
            data.prepare_data()
    except UserError as error:
        return one_line(error)
    return None


def outputs_of(overrides: Sequence[str]) -> str:
    """Return the directory that training with the user's words writes to."""
    given = {override.key_or_group: override.value() for override in _parsed(overrides)}
    return str(given.get("outputs", "outputs"))


def jobs(words: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the words of each job that ``train -m`` with these makes.

    Raises:
        HydraException: a word that is not of Hydra's grammar.
    """
    return list(product(*map(_values, _parsed(words))))


def _parsed(words: Sequence[str]) -> list[Override]:
    return OverridesParser.create().parse_overrides(list(words))


def _values(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [str(override.input_line)]
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


def _seeds(table: Table) -> str:
    return f"seed={','.join(map(str, table.seeds))}"


def _is_seed(word: str) -> bool:
    return split_override(word)[0] == "seed"
