"""Published tables as files: ``configs/table/<paper>/<table>.yaml``, and likewise below a ``--config-dir``.

::

    paper: the paper, with venue and arXiv number        title: the table's own heading
    source: the document with the digits                 notes: remarks for the reader (optional)
    classes: 100         input_size: [3, 32, 32]         of the counted networks
    overrides: [data=cifar100, recipe=bsconv_cifar]      of every row
    stand_ins: [data]    groups of the overrides that are not the published ones (optional)
    seeds: [0, 1, 2]     of the runs that run=true starts (optional, [0])
    folded: true         the counts are those of the network folded for inference (optional; a row may have its own)
    columns: {params: {unit: M}, flops: {unit: M, convention: bsconv}, top1: {unit: "%"}}
    rows:
      - {row: ResNet-20, overrides: [model=resnet20], params: 0.28, flops: 41.42, top1: 68.59}

A column may also have ``truncated: true`` (all its figures were cut off behind their last digit, not rounded).

A row may have an ``input_size`` of its own, and its overrides win over the table's. With ``where_present: true`` it is
trained only where its data set is present or can be downloaded; elsewhere a line on standard error says so.

A row may also have ``convention`` (of its FLOPs), ``without_norms: true`` (batch norms are not in its parameters),
``same_cost_as`` (a row of the same cost, which the paper states in place of figures), ``note``, ``erratum`` (why the
printed figure of a column cannot be right, such as ``{flops: ...}``) and ``external: true`` (the publication does not
define the network).

Every scalar is read as text, so that ``0.70`` keeps both its digits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from efficientconv.config_path import CONFIGS, own_configs
from efficientconv.errors import UserError, nearest_first
from efficientconv.tables.load.figures import UNITS, Figure
from efficientconv.tables.load.overrides import group_of
from efficientconv.tables.load.table import COLUMNS, COUNTED, Column, Row, Table

TABLES = CONFIGS / "table"

_TABLE_KEYS = {
    "paper": str,
    "title": str,
    "source": str,
    "notes": str,
    "classes": str,
    "input_size": list,
    "overrides": list,
    "stand_ins": list,
    "seeds": list,
    "columns": dict,
    "folded": str,
    "rows": list,
}
_TABLE_NEEDS = ("paper", "title", "source", "classes", "input_size", "columns", "rows")
_ROW_KEYS = {
    "row": str,
    "overrides": list,
    "input_size": list,
    "where_present": str,
    "folded": str,
    "convention": str,
    "without_norms": str,
    "same_cost_as": str,
    "note": str,
    "erratum": dict,
    "external": str,
}
_ONLY_WITH_OVERRIDES = ("input_size", "where_present", "folded", "convention", "without_norms", "same_cost_as")
_COLUMN_KEYS = {"unit": str, "convention": str, "of": str, "truncated": str}
_GROUPS = ("model", "conv", "data", "recipe", "trainer")
_STAND_INS = ("data", "recipe")
_KINDS: dict[type, str] = {str: "text or a number", list: "a list", dict: "a mapping"}


def table_names() -> list[str]:
    """List every table as ``<paper>/<table>``, sorted: ours, and those in the folder that ``--config-dir`` names."""
    files = ((folder, file) for folder in _folders() for file in folder.glob("*/*.yaml"))
    return sorted({file.relative_to(folder).with_suffix("").as_posix() for folder, file in files})


def table_file(name: str) -> Path:
    """Return the file of a table; the user's own one where both have that name, and ours where neither has."""
    return next((file for folder in _folders() if (file := folder / f"{name}.yaml").is_file()), TABLES / f"{name}.yaml")


def _folders() -> list[Path]:
    own = own_configs()
    return [TABLES] if own is None else [own / "table", TABLES]


def find_tables(patterns: Sequence[str]) -> list[str]:
    """List the tables that match any of the patterns: a table's name, a paper's (all its tables), a glob, or ``all``.

    Raises:
        UserError: a pattern that matches no table.
    """
    papers = {name: name.partition("/")[0] for name in table_names()}
    names: list[str] = []
    for pattern in patterns:
        matching = [name for name in papers if pattern in ("all", papers[name]) or fnmatchcase(name, pattern)]
        if not matching:
            near = nearest_first(pattern, [*dict.fromkeys(papers.values()), *papers], most=5)
            raise UserError(f"table={pattern}: there is no such table; nearest first: {near}")
        names.extend(name for name in matching if name not in names)
    return names


def load_table(name: str, directory: Path | None = None) -> Table:
    """Read a table's file and check everything that does not need a network.

    Args:
        name: ``<paper>/<table>``.
        directory: where it is; ``None`` is where `table_file` finds it.

    Raises:
        UserError: the file has a mistake; the message names the file, the row and the rule.
    """
    file = table_file(name) if directory is None else directory / f"{name}.yaml"
    content = _content(file)
    reader = _Reader(f"{file}")
    reader.check_keys(content, _TABLE_KEYS, _TABLE_NEEDS)
    columns = {key: reader.column(key, value) for key, value in content["columns"].items()}
    rows = tuple(_rows(f"{file}", content, columns))
    table = Table(
        name=name,
        paper=content["paper"],
        title=content["title"],
        source=content["source"],
        notes=content.get("notes"),
        classes=reader.whole("classes", content["classes"]),
        input_size=reader.image(content["input_size"]),
        overrides=reader.overrides(content),
        stand_ins=reader.stand_ins(content),
        seeds=reader.seeds(content),
        columns=columns,
        folded=reader.flag("folded", content),
        rows=rows,
    )
    reader.check_references(table)
    return table


class _TextLoader(yaml.BaseLoader):
    """Reads every scalar as text and refuses a duplicate key, of which YAML would keep the last value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = []
        for key, _ in node.value:
            if key.value in keys:
                mark = key.start_mark
                raise UserError(f"{mark.name}, line {mark.line + 1}: {key.value!r} is given twice")
            keys.append(key.value)
        return super().construct_mapping(node, deep)


def _content(file: Path) -> Any:
    with file.open(encoding="utf-8") as lines:
        try:
            return yaml.load(lines, Loader=_TextLoader)
        except UnicodeDecodeError as error:
            raise UserError(f"{file}: not UTF-8: it has a byte {error.object[error.start]:#04x}") from error
        except yaml.YAMLError as error:
            raise UserError(f"{file}: not YAML: {' '.join(str(error).split())}") from error


def _rows(file: str, content: Mapping[str, Any], columns: Mapping[str, Column]) -> Iterator[Row]:
    if not content["rows"]:
        raise UserError(f"{file}: rows: must be at least one")
    defaults = {"folded": content.get("folded", "false")}
    for number, given in enumerate(content["rows"], 1):
        name = given.get("row", f"number {number}") if isinstance(given, dict) else f"number {number}"
        reader = _Reader(f"{file}: row {name!r}")
        reader.check_keys(given, _ROW_KEYS | dict.fromkeys(columns, str), ("row",))
        reader.check_external(given)
        yield reader.row(defaults | given, columns)


@dataclass(frozen=True)
class _Reader:
    """Converts YAML's texts, lists and mappings; ``place`` is the file and the row that its errors name."""

    place: str

    def wrong(self, text: str) -> UserError:
        return UserError(f"{self.place}: {text}")

    def check_keys(self, given: Any, known: Mapping[str, type], needed: Sequence[str]) -> None:
        if not isinstance(given, dict):
            raise self.wrong(f"must be a mapping of keys to values, not {given!r}")
        for key, value in given.items():
            if key not in known:
                raise self.wrong(f"unknown key {key!r}; nearest first: {nearest_first(key, known, most=5)}")
            if not isinstance(value, known[key]):
                raise self.wrong(f"{key}: must be {_KINDS[known[key]]}, not {value!r}")
        for key in needed:
            if key not in given:
                raise self.wrong(f"{key} is missing")

    def column(self, name: str, given: Any) -> Column:
        reader = _Reader(f"{self.place}: column {name!r}")
        if name not in COLUMNS:
            raise reader.wrong(f"there is no such column; nearest first: {nearest_first(name, COLUMNS, most=5)}")
        reader.check_keys(given, _COLUMN_KEYS, ("unit",))
        if given["unit"] not in UNITS:
            raise reader.wrong(f"unit {given['unit']!r} is unknown; the units are {', '.join(filter(None, UNITS))}")
        for key, owner in (("convention", "flops"), ("of", "params_saved")):
            if (key in given) != (name == owner):
                raise reader.wrong(f"{key} is {'missing' if name == owner else 'for ' + owner + ' alone'}")
        return Column(given["unit"], given.get("convention"), given.get("of"), reader.flag("truncated", given))

    def check_external(self, given: Mapping[str, Any]) -> None:
        external = self.flag("external", given)
        if external == ("overrides" in given):
            raise self.wrong("must have either overrides, which build the network, or external: true")
        for key in _ONLY_WITH_OVERRIDES:
            if external and key in given:
                raise self.wrong(f"{key}: needs overrides; an external row is neither built nor counted")

    def row(self, given: Mapping[str, Any], columns: Mapping[str, Column]) -> Row:
        external = self.flag("external", given)
        figures = {name: self.figure(name, given[name], column) for name, column in columns.items() if name in given}
        return Row(
            name=given["row"],
            overrides=self.overrides(given),
            figures=figures,
            input_size=self.image(given["input_size"]) if "input_size" in given else None,
            where_present=self.flag("where_present", given),
            convention=given.get("convention"),
            folded=self.flag("folded", given),
            without_norms=self.flag("without_norms", given),
            same_cost_as=given.get("same_cost_as"),
            note=given.get("note"),
            erratum=self.erratum(given, [] if external else [name for name in figures if name in COUNTED]),
            external=external,
        )

    def figure(self, name: str, text: str, column: Column) -> Figure:
        try:
            return Figure(text, column.unit, column.truncated)
        except ValueError as error:
            raise self.wrong(f"{name}: {error}") from error

    def erratum(self, given: Mapping[str, Any], counted: Sequence[str]) -> dict[str, str]:
        reasons = given.get("erratum", {})
        for name, reason in reasons.items():
            if name not in counted:
                known = ", ".join(counted) or "none"
                raise self.wrong(f"erratum: {name!r} is not a counted figure of this row; the counted ones are {known}")
            if not isinstance(reason, str) or not reason:
                raise self.wrong(f"erratum: {name}: must be a reason, not {reason!r}")
        return dict(reasons)

    def stand_ins(self, given: Mapping[str, Any]) -> tuple[str, ...]:
        groups = given.get("stand_ins", ())
        for group in groups:
            if group not in _STAND_INS:
                raise self.wrong(f"stand_ins: {group!r} must be one of {', '.join(_STAND_INS)}")
        return tuple(groups)

    def seeds(self, given: Mapping[str, Any]) -> tuple[int, ...]:
        seeds = tuple(self.whole("seeds", seed) for seed in given.get("seeds", ("0",)))
        if not seeds:
            raise self.wrong("seeds: must be at least one")
        for seed in seeds:
            if seeds.count(seed) > 1:
                raise self.wrong(f"seeds: {seed} is given twice")
        return seeds

    def overrides(self, given: Mapping[str, Any]) -> tuple[str, ...]:
        overrides = given.get("overrides", ())
        for override in overrides:
            if not isinstance(override, str) or group_of(override) not in _GROUPS:
                raise self.wrong(f"overrides: {override!r} must set one of {', '.join(_GROUPS)}")
        return tuple(overrides)

    def flag(self, name: str, given: Mapping[str, Any]) -> bool:
        if given.get(name, "false") not in ("true", "false"):
            raise self.wrong(f"{name}: must be true or false, not {given[name]!r}")
        return given.get(name) == "true"

    def whole(self, name: str, text: str) -> int:
        if not isinstance(text, str) or not text.isdecimal():
            raise self.wrong(f"{name}: must be a whole number, not {text!r}")
        return int(text)

    def image(self, given: Sequence[str]) -> tuple[int, int, int]:
        if len(given) != 3:
            raise self.wrong(f"input_size: must be channels, height and width, not {given!r}")
        channels, height, width = (self.whole("input_size", size) for size in given)
        return channels, height, width

    def check_references(self, table: Table) -> None:
        names = [row.name for row in table.rows]
        for name in names:
            if names.count(name) > 1:
                raise self.wrong(f"two rows are called {name!r}")
        wanted = [(f"row {row.name!r}: same_cost_as", row.same_cost_as) for row in table.rows]
        wanted += [(f"column {key!r}: of", column.of) for key, column in table.columns.items()]
        for where, other in wanted:
            if other is not None:
                self.check_reference(where, other, table)
        for row in table.rows:
            if row.same_cost_as == row.name:
                raise self.wrong(f"row {row.name!r}: same_cost_as: must be another row")

    def check_reference(self, where: str, other: str, table: Table) -> None:
        names = [row.name for row in table.rows]
        if other not in names:
            raise self.wrong(
                f"{where}: there is no row {other!r}; nearest first: {nearest_first(other, names, most=5)}"
            )
        if table.row(other).external:
            raise self.wrong(f"{where}: row {other!r} is external and not counted")
