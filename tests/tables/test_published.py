"""Every row of every published table: what is printed comes out, and docs/tables.md says so."""

import re
from pathlib import Path

import pytest

from efficientconv.profiling import CONVENTIONS
from efficientconv.tables.compose import composed_training
from efficientconv.tables.entries import entries
from efficientconv.tables.formats import markdown_section
from efficientconv.tables.load import load_table, table_names
from efficientconv.tables.measured import Measurements
from efficientconv.tables.page import COMMAND, contents_line, introduction, reasons

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tables.md").read_text()
STALE = f"docs/tables.md is not current: {COMMAND}"
NAMES = table_names()


def test_all_tables_are_there():
    rows = {name: len(load_table(name).rows) for name in NAMES}
    assert sum(rows[name] for name in NAMES if name.startswith("bsconv/")) == 211
    assert sum(name.startswith("bsconv/") for name in NAMES) == 15
    assert sum(rows[name] for name in NAMES if name.startswith("spconv/")) == 18
    assert rows["doconv/imagenet"] == 59  # 20 networks three times, and one without a reference


@pytest.mark.parametrize("name", NAMES)
def test_every_row_comes_out_and_is_on_the_page(name):
    table = load_table(name)
    section = entries(table, table.rows, Measurements([ROOT / "results"]))
    differing = [
        f"{entry.row.name}, {key}: {entry.row.figures.get(key)} printed, {entry.computed[key]} computed"
        for entry in section
        for key, agrees in entry.agreement.items()
        if agrees == (key in entry.row.erratum)
    ]
    assert differing == []
    for piece in (contents_line(section), markdown_section(section), *reasons(section)):
        assert piece in PAGE, STALE


@pytest.mark.parametrize("name", NAMES)
def test_training_composes_and_stand_ins_are_groups(name):
    table = load_table(name)
    assert set(composed_training(table)["choices"]) == {"data", "recipe", "trainer"}
    assert set(table.stand_ins) <= {"data", "recipe"}


def test_page_has_nothing_else():
    assert PAGE.startswith("\n".join(introduction())), STALE
    assert PAGE.count("\n### ") == len(NAMES), STALE
    assert PAGE.count("\n- ") == PAGE.count(" computed; ") + len(CONVENTIONS), STALE


def test_page_adds_up():
    lines = re.findall(r"^\| (\S+) \| .*\| (\d+) rows: (.*) \|$", PAGE, re.MULTILINE)
    sums: dict[str, int] = {}
    for _, rows, kinds in lines[:-1]:
        for number, kind in [(rows, "rows"), *re.findall(r"(\d+) ([a-z ]+)", kinds)]:
            sums[kind] = sums.get(kind, 0) + int(number)
    name, rows, kinds = lines[-1]
    assert name == "all"
    assert {"rows": int(rows)} | {kind: int(n) for n, kind in re.findall(r"(\d+) ([a-z ]+)", kinds)} == sums
