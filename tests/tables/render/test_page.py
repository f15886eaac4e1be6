import re
from dataclasses import replace

import pytest

from efficientconv.tables.render.page import assembled, page, part


@pytest.fixture
def text(section):
    return page([section])


def test_contents_link_to_their_tables(text):
    assert "| [paper/small](#papersmall-t) | T | 4 rows: 1 agrees, 2 with an erratum, 1 external |" in text
    assert "\n| all |  | 4 rows: 1 agrees, 2 with an erratum, 1 external |\n" in text
    assert "\n## P: someone\n\n### paper/small: T\n\n4 rows: " in text


def test_errata_are_listed_with_both_digits_and_explained_once(text):
    assert "\n## Printed figures that do not come out\n\nThe reasons stand in the remarks and notes of" in text
    assert "\n| [paper/small](#papersmall-t) | wrong / not right | params | 9.9 k | 7.1 k |\n" in text
    assert "\n| [paper/small](#papersmall-t) | odd | FLOPs | 0.4 M | 0.3 M |\n" in text
    assert text.count("7 <k> is right") == 1


def test_a_needless_erratum_is_not_listed(write, entries_of):
    row = {"row": "plain", "overrides": [], "params": "4.2", "erratum": {"params": "why"}}
    assert part(entries_of(write(rows=[row]))).errata == ()


def test_every_convention_is_explained(text):
    assert "\n- `bsconv`: Count as" in text


def test_blank_lines_are_single(text):
    assert "\n\n\n" not in text
    assert text.endswith("|\n")


def test_the_project_s_own_papers_come_first(section):
    names = ["hetconv/a", "bdrconv/a", "ghost/a", "spconv/b", "bsconv/z", "spconv/a"]
    one = part(section)
    parts = [replaced(one, name) for name in names]
    headings = re.findall(r"^### (\S+):", assembled(parts), re.MULTILINE)
    assert headings == ["bsconv/z", "spconv/a", "spconv/b", "bdrconv/a", "ghost/a", "hetconv/a"]


def replaced(part, name):
    table = replace(part.table, name=name, paper=name.partition("/")[0])
    return replace(part, table=table, text=part.text.replace("paper/small", name))
