"""Every row of every published table: what is printed comes out, and docs/tables.md says so, and nothing else.

The page is taken apart into what each table brings to it. That is compared with what is counted now, table by table,
and put together again it has to be the page.
"""

import re
from collections import Counter
from pathlib import Path

import pytest

from efficientconv.tables.entries import KINDS, entries
from efficientconv.tables.load.files import load_table, table_names
from efficientconv.tables.measure.runs import Measurements
from efficientconv.tables.render.formats import heading
from efficientconv.tables.render.page import COMMAND, Part, assembled, link, part

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tables.md").read_text()
STALE = f"docs/tables.md is not current: {COMMAND}"
NAMES = table_names()
LONG = {
    "bsconv/cifar100_resnet",  # of up to 602 layers
    "bsconv/cifar100_wrn28",
    "bsconv/cifar100_wrn40",
    "bsconv/cifar100_mobilenetv3_large",  # as for CIFAR-10
    "bsconv/cifar10_wrn28",
    "bsconv/cifar10_wrn40",
    "doconv/imagenet",
    "repvgg/imagenet",
    "slimconv/cifar100_resnet50",
}


def test_all_tables_are_there():
    rows = {name: len(load_table(name).rows) for name in NAMES}
    assert sum(rows[name] for name in NAMES if name.startswith("bsconv/")) == 211
    assert sum(name.startswith("bsconv/") for name in NAMES) == 15
    assert sum(rows[name] for name in NAMES if name.startswith("spconv/")) == 18
    assert rows["doconv/imagenet"] == 59  # 20 networks three times, and one without a reference


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in NAMES])
def test_every_row_comes_out_and_is_on_the_page(name):
    table = load_table(name)
    section = entries(table, table.rows, Measurements([ROOT / "results"]))
    assert [line for entry in section for line in complaints(entry)] == []
    assert part_of_page(table) == part(section), STALE


def complaints(entry):
    for name in entry.unexplained:
        yield f"{entry.row.name}, {name}: {entry.row.figures.get(name)} printed, {dict(entry.computed)} computed"
    for name in entry.needless:
        yield f"{entry.row.name}, {name}: an erratum, but it comes out"


def part_of_page(table):
    contents, _, rest = PAGE.partition("## Printed figures")
    tally = found(rf"^\| {re.escape(link(table))} \| [^|]* \| \d+ rows?: ([^|]*) \|$", contents)
    text = found(rf"^(### {re.escape(heading(table))}\n.*?)\s*(?=^#|\Z)", rest)
    errata = [line for line in rest.splitlines() if line.startswith(f"| {link(table)} |")]
    return Part(table, kinds_of(tally), tuple(errata), f"{text}\n")


def found(pattern, text):
    match = re.search(pattern, text, re.MULTILINE | re.DOTALL)
    assert match, STALE
    return match[1]


def kinds_of(tally):
    found = re.findall(rf"(\d+) ({'|'.join(KINDS)})", tally)
    return Counter({kind: int(number) for number, kind in found})


def test_long_tables_are_tables():
    assert set(NAMES) >= LONG


def test_the_page_is_made_of_these_parts_alone():
    assert assembled([part_of_page(load_table(name)) for name in NAMES]) == PAGE, STALE


def test_contents_link_to_headings_that_differ():
    headings = re.findall("^#+ (.*)$", PAGE, re.MULTILINE)
    anchors = [re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings]
    links = re.findall(r"\]\(#(.*?)\)", PAGE)
    assert len(set(links)) == len(NAMES)
    assert [anchors.count(name) for name in links] == [1] * len(links)
