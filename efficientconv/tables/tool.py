"""``efficientconv tables``: list the tables, print them, and find the sweeps that train their rows."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from efficientconv.console import console
from efficientconv.errors import UserError, nearest_first
from efficientconv.tables.arguments import OWN_KEYS
from efficientconv.tables.count.configurations import NETWORK, require_training
from efficientconv.tables.load.files import find_tables, load_table
from efficientconv.tables.load.overrides import group_of, key_of
from efficientconv.tables.load.table import Row, Table
from efficientconv.tables.measure.runs import Measurements, write_csv_file
from efficientconv.tables.measure.sweep import fetch_data, outputs_of, require_classes, sweep_overrides
from efficientconv.tables.render.catalogue import print_list

FORMATS = ("text", "markdown", "csv", "json", "html")
ONLY_OF_A_TABLE = {"row": "*", "results": None, "save": None, "run": False}

Chosen = Sequence[tuple[Table, Sequence[Row]]]
"""Tables, each with its chosen rows."""


def run(config: Mapping[str, Any], overrides: Sequence[str]) -> list[list[str]] | None:
    """Print the named tables, or the list of tables where none is named; or return the sweeps left to train.

    Args:
        config: ``configs/tables.yaml`` composed.
        overrides: of the training.

    Returns:
        With ``run: true``, which prints nothing, the overrides of ``train -m`` for each row without a measured value;
        else None.

    Raises:
        UserError: an unknown table, row, format, place or key, a mistake in a table, or overrides of the training
            without ``run``.
    """
    require_for_training(overrides, config["run"])
    require_sensible(config)
    if config["run"]:
        return missing_sweeps(choose(config["tables"], config["row"]), places(config, overrides), overrides)
    if config["tables"] is None:
        print_list(config["format"])
    else:
        show(config, overrides)
    return None


def require_sensible(config: Mapping[str, Any]) -> None:
    """Refuse an unknown format, and keys that do nothing without a table.

    Raises:
        UserError: such a value; the message names the key and the rule.
    """
    if config["format"] not in FORMATS:
        near = nearest_first(str(config["format"]), FORMATS)
        raise UserError(f"format={config['format']}: there is no such format; nearest first: {near}")
    for key, usual in ONLY_OF_A_TABLE.items():
        if config["tables"] is None and config[key] != usual:
            raise UserError(
                f"{key}= needs a table: table=<name>, a paper, a glob pattern, or all; efficientconv tables lists them"
            )


def require_for_training(overrides: Sequence[str], run: Any) -> None:
    """Refuse a ``run`` that is not true or false, and arguments that are neither this tool's nor a row training's.

    Raises:
        UserError: such an argument; the message names it and the nearest key.
    """
    if not isinstance(run, bool):  # "no" is a text, which Python takes for true
        raise UserError(f"run={run}: must be true or false")
    for override in overrides:
        key = key_of(override)
        if get_close_matches(key, OWN_KEYS, cutoff=0.7):
            raise UserError(f"{key}: there is no such key; nearest first: {nearest_first(key, OWN_KEYS)}")
        if not run:
            own = ", ".join(OWN_KEYS)
            raise UserError(f"{override}: is for training, with run=true; the keys of this tool are {own}")
        if group_of(override) in NETWORK:
            raise UserError(f"{override}: a row has its own network; python train.py trains others")


def places(config: Mapping[str, Any], overrides: Sequence[str]) -> list[str]:
    """List the places to search for measured values: ``results``, and the directory that training writes to.

    Raises:
        UserError: a given place does not exist.
    """
    outputs = outputs_of(overrides)
    if config["results"] is None:
        return ["results", outputs]
    trained = [outputs] if config["run"] else []
    for place in config["results"]:
        if place not in trained and not Path(place).exists():
            raise UserError(f"results={place}: there is no such directory or file")
    return list(dict.fromkeys([*config["results"], *trained]))


def choose(patterns: Sequence[str], row: str) -> list[tuple[Table, list[Row]]]:
    """Load tables and choose the rows of a name or pattern.

    Raises:
        UserError: no table, or no row of these tables, matches.
    """
    tables = [load_table(name) for name in find_tables(patterns)]
    chosen = [(table, table.rows_like(row)) for table in tables]
    if not any(rows for _, rows in chosen):
        names = [row.name for table in tables for row in table.rows]
        raise UserError(f"row={row}: there is no such row; nearest first: {nearest_first(row, names, most=5)}")
    return [(table, rows) for table, rows in chosen if rows]


def missing_sweeps(chosen: Chosen, results: Sequence[str], overrides: Sequence[str]) -> list[list[str]]:
    """Return the sweeps that train the rows that lack a run.

    Args:
        chosen: tables and rows.
        results: the places of runs; see `Measurements`.
        overrides: the user's own, which win over the table's.

    Returns:
        The overrides of ``train -m`` for each row; training skips the jobs that are done. Data sets of rows with
        ``where_present`` are downloaded; where that fails, the row is left out and standard error says why.

    Raises:
        UserError: a row cannot be trained, or not on the data set that the user has chosen.
    """
    sweeps: list[list[str]] = []
    left_out: dict[str, list[str]] = defaultdict(list)
    for table, row in _lacking(chosen, Measurements(results, overrides), overrides):
        sweep = sweep_overrides(table, row, overrides)
        reason = fetch_data(sweep) if row.where_present else None
        if reason is None:
            sweeps.append(sweep)
        else:
            left_out[reason].append(f"{table.name} {row.name!r}")
    for reason, names in left_out.items():
        print(f"not trained: {', '.join(names)}: {reason}", file=sys.stderr)
    return sweeps


def _lacking(chosen: Chosen, measurements: Measurements, overrides: Sequence[str]) -> list[tuple[Table, Row]]:
    """List the rows that lack a run.

    Raises:
        UserError: a row cannot be trained, or not on the data set that the user has chosen.
    """
    rows = [(table, row) for table, rows_of_table in chosen for row in rows_of_table if not row.external]
    for table, row in rows:
        require_training(table, row)
    lacking = [(table, row) for table, row in rows if measurements.lacks(table, row)]
    for table, row in lacking:
        require_classes(table, row, overrides)
    return lacking


def show(config: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Print rows with all their figures, and save their runs to the file ``save``.

    Args:
        config: see `run`.
        overrides: of the training whose measurements are printed, where a row has those of several.

    Raises:
        UserError: see `run`; or no run to save.
    """
    from efficientconv.tables.entries import entries_of_tables
    from efficientconv.tables.render import atlas, formats, page

    chosen = choose(config["tables"], config["row"])
    measurements = Measurements(places(config, overrides), overrides)
    sections = entries_of_tables(chosen, measurements)
    if config["format"] == "text":
        screen = console()
        for section in sections:
            screen.print(formats.as_rich(section, screen.width), crop=False)
    else:
        is_page = config["format"] == "markdown" and "all" in config["tables"] and config["row"] == "*"
        writers = formats.FORMATS | {"html": atlas.as_html}
        sys.stdout.write((page.page if is_page else writers[config["format"]])(sections))
    if config["run"]:
        _report_other_classes(measurements, chosen)
    if config["save"] is not None:
        _save(config["save"], measurements, chosen)


def _report_other_classes(measurements: Measurements, chosen: Chosen) -> None:
    for table, row in ((table, row) for table, rows in chosen for row in rows):
        for classes in measurements.other_classes(table, row):
            text = f"was trained on {classes} classes; the table's networks have {table.classes}"
            print(f"not shown: {table.name} {row.name!r}: {text}", file=sys.stderr)


def _save(file: str, measurements: Measurements, chosen: Chosen) -> None:
    runs = [run for table, rows in chosen for row in rows for run in measurements.runs(table, row)]
    if not runs:
        raise UserError(f"save={file}: these rows have no run; the file is left as it is")
    write_csv_file(file, runs)
