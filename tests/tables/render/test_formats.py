import csv
import io
import json

import pytest
from rich.console import Console

from efficientconv.tables.render.cells import grid
from efficientconv.tables.render.formats import FORMATS, as_rich


def shown(section, width):
    console = Console(width=width, file=io.StringIO(), highlight=False)
    console.print(as_rich(section, width), crop=False)
    return console.file.getvalue()


def test_json_is_one_list_of_all_rows(section):
    assert json.loads(FORMATS["json"]([section, section])) == [entry.to_dict() for entry in section] * 2


def test_csv_is_one_line_a_row(section):
    lines = list(csv.DictReader(io.StringIO(FORMATS["csv"]([section]))))
    assert [line["row"] for line in lines] == [entry.row.name for entry in section]
    plain = lines[0]
    assert (plain["published_params"], plain["computed_params"], plain["computed_convention"]) == (
        "4200",
        "4218",
        "macs",
    )
    assert (plain["measured_seeds"], plain["folded"], plain["truncated"]) == ("0; 1", "False", "")
    assert lines[1]["remarks"].startswith("erratum, params: 7 <k> is right")


def test_markdown_has_names_and_remarks_at_the_left(section):
    lines = FORMATS["markdown"]([section]).splitlines()
    assert f"| --- |{' ---: |' * 6} --- |" in lines
    assert lines[-1] == "| pruned | 1.0 |  |  |  |  |  | external |"


def test_stars_that_were_published_are_no_markup(write, entries_of):
    section = entries_of(write(rows=[{"row": "**a**", "overrides": []}]))
    assert "\n**a** " in shown(section, 80)


def test_without_remarks_there_is_no_column_of_them(write, entries_of):
    section = entries_of(write(rows=[{"row": "a", "overrides": []}]))
    assert "| --- | ---: | ---: |\n" in FORMATS["markdown"]([section])
    assert "note" not in shown(section, 80)


def test_markdown_escapes_the_bar(section):
    text = FORMATS["markdown"]([section])
    assert text.startswith("### paper/small: T\n\n4 rows: 1 agrees, 2 with an erratum, 1 external · S\n\n| row |")
    assert "| computed FLOPs, M (macs) |" in text
    assert "| wrong / not right | 9.9 | **7.1** |" in text


def test_a_terminal_has_remarks_source_and_notes_below(write, entries_of, section):
    text = shown(section, 120)
    assert text.startswith("paper/small: T\nP: someone\n4 rows: 1 agrees")
    assert "≠ 7.1" in text
    assert "\n3 a note; erratum, FLOPs: 0.3 is\n" in text
    table = write(folded="true", notes="Read this.")
    assert shown(entries_of(table), 120).endswith("\nS\nRead this. Counted as folded for inference.\n\n")


@pytest.mark.parametrize("width", [120, 80, 60, 40])
def test_no_figure_is_cut(write, entries_of, width):
    rows = [
        {"row": "a name that is far too long for a narrow terminal", "overrides": [], "params": "4217.75"},
        {"row": "wrong | not right", "overrides": ["conv=doconv"], "params": "9999.999", "flops": "1234.567890"},
    ]
    section = entries_of(write(rows=rows))
    text = shown(section, width)
    cells = [cell.text for row in grid(section).rows for cell in row[1:]]
    assert {"4217.75", "9999.999", "1234.567890", "95.00*"} <= set(cells)
    assert [cell for cell in cells if cell not in text] == []
    assert "…" not in text
