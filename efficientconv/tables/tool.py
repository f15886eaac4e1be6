"""``efficientconv tables``: list the tables, print them, train their rows."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table as RichTable

from efficientconv.console import console
from efficientconv.errors import UserError, nearest_first
from efficientconv.tables.load import find_tables, group_of, load_table, table_names
from efficientconv.tables.table import Row, Table

FORMATS = ("text", "markdown", "csv", "json", "html")
OWN_KEYS = ("table", "row", "format", "run", "results", "save", "hydra")


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part the command line into the tool's own words and those that are meant for training.

    A word without ``=`` is a table's name. ``table=`` becomes ``tables=``: there is a folder of that name in
    ``configs``, for which Hydra would take it.
    """
    own: list[str] = []
    others: list[str] = []
    for word in words:
        if "=" not in word and not word.startswith("-"):
            word = f"table={word}"
        is_own = word.startswith("-") or word.partition("=")[0].partition(".")[0] in OWN_KEYS
        (own if is_own else others).append(re.sub("^table=", "tables=", word))
    return own, others


def run(config: Mapping[str, Any], overrides: Sequence[str]) -> list[list[str]] | None:
    """Print tables, or the list of them where none is named; or say what is left to train.

    Args:
        config: ``configs/tables.yaml`` composed.
        overrides: words that are meant for training.

    Returns:
        With ``run: true``, and then nothing is printed, the words behind ``train -m`` for each row that has no measured
        value; else None.

    Raises:
        UserError: no such table, row or format, a table that is not right, or words for training without ``run``.
    """
    patterns, results = _as_list(config["tables"]), _as_list(config["results"])
    if config["run"]:
        if not patterns:
            raise UserError(
                "run=true: which table? table=<name>, a glob pattern, or all; efficientconv tables lists them"
            )
        return list(missing_sweeps(choose(patterns, config["row"]), results, overrides))
    if overrides:
        keys = ", ".join(OWN_KEYS[:-1])
        raise UserError(f"{overrides[0]}: is for training, with run=true; the keys of this tool are {keys}")
    if config["format"] not in FORMATS:
        near = nearest_first(str(config["format"]), FORMATS)
        raise UserError(f"format={config['format']}: there is no such format; nearest first: {near}")
    if patterns:
        is_page = "all" in patterns and config["row"] == "*"
        show(choose(patterns, config["row"]), config["format"], results, config["save"], is_page)
    else:
        console().print(listing())
    return None


def show(
    chosen: Sequence[tuple[Table, Sequence[Row]]], format: str, results: Sequence[str], save: str | None, is_page: bool
) -> None:
    """Count, look up and print rows.

    Args:
        chosen: tables, each with the rows to show.
        format: one of `FORMATS`.
        results: directories with run directories below them, or CSV files in them.
        save: a CSV file for the runs that were found of these rows.
        is_page: Markdown with an introduction and contents.
    """
    from efficientconv.tables import formats, page
    from efficientconv.tables.entries import entries
    from efficientconv.tables.measured import Measurements, write_csv_file

    measurements = Measurements(results)
    sections = [entries(table, rows, measurements) for table, rows in chosen]
    if save is not None:
        write_csv_file(save, (run for table, rows in chosen for row in rows for run in measurements.runs(table, row)))
    if format == "text":
        screen = console()
        for section in sections:
            screen.print(formats.as_rich(section, screen.width), crop=False)
    else:
        write = page.page if is_page and format == "markdown" else formats.FORMATS[format]
        sys.stdout.write(write(sections))


def choose(patterns: Sequence[str], row: str) -> list[tuple[Table, list[Row]]]:
    """Load tables and pick the rows of that name or pattern.

    Raises:
        UserError: no table, or no row in any of them, has such a name.
    """
    tables = [load_table(name) for name in find_tables(patterns)]
    chosen = [(table, table.rows_like(row)) for table in tables]
    if not any(rows for _, rows in chosen):
        names = [row.name for table in tables for row in table.rows]
        raise UserError(f"row={row}: there is no such row; nearest first: {nearest_first(row, names, most=5)}")
    return [(table, rows) for table, rows in chosen if rows]


def listing() -> RichTable:
    """Lay out the list of all tables."""
    found = RichTable("table", "paper", "title", "rows")
    for name in table_names():
        table = load_table(name)
        found.add_row(name, table.paper.partition(":")[0], table.title, str(len(table.rows)))
    return found


def missing_sweeps(
    chosen: Sequence[tuple[Table, Sequence[Row]]], results: Sequence[str], overrides: Sequence[str]
) -> Iterator[list[str]]:
    """Say how to train the rows that have no measured value for one of their table's seeds.

    Args:
        chosen: see `show`.
        results: see `show`.
        overrides: the user's own, which win over the table's.

    Yields:
        The words behind ``train -m`` for each row; jobs of it that are done already are skipped there.
    """
    from efficientconv.tables.measured import Measurements

    measurements = Measurements(results)
    for table, rows in chosen:
        for row in rows:
            seeds = set(measurements.measured(table, row).get("seeds", ()))
            if not row.external and not seeds.issuperset(table.seeds):
                yield sweep_words(table, row, overrides)


def sweep_words(table: Table, row: Row, overrides: Sequence[str]) -> list[str]:
    """Return the words behind ``train -m`` that train one row with each of its table's seeds.

    Of the table's own words those go that the user's replace: the same key, or all keys of a group chosen anew.
    """
    seeds = ",".join(map(str, table.seeds))
    words = [f"sweep=table-{table.name.replace('/', '-')}", f"seed={seeds}", *table.overrides, *row.overrides]
    given = {_key(word) for word in overrides}
    return [*(word for word in words if not given & {_key(word), group_of(word)}), *overrides]


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def _as_list(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]
