"""The sweep that trains a row: the words behind ``train -m``, and the jobs that they make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from efficientconv.run_names import safe_name, split_override
from efficientconv.tables.configurations import composed_training
from efficientconv.tables.overrides import merged
from efficientconv.tables.table import Row, Table


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
