import csv
import io
import json

import pytest
from rich.console import Console

from efficientconv.tables.entries import entries, grid, tally
from efficientconv.tables.formats import FORMATS, as_rich
from efficientconv.tables.measured import Measurements
from efficientconv.tables.page import page

ROWS = [
    {"row": "plain", "overrides": [], "params": "4.2", "flops": "0.281", "top1": "95.10"},
    {
        "row": "wrong | not right",
        "overrides": ["conv=doconv"],
        "params": "9.9",
        "top1": "95.60",
        "erratum": {"params": "7 <k> is right"},
    },
    {"row": "odd", "overrides": [], "flops": "0.4", "erratum": {"flops": "0.3 is"}, "note": "a note"},
    {"row": "pruned", "external": "true", "params": "1.0"},
]


@pytest.fixture
def section(write, leave_run, tmp_path):
    table = write(rows=ROWS)
    leave_run(table, table.rows[0], "a", seed=0, top1=0.9)
    leave_run(table, table.rows[0], "b", seed=1, top1=0.92)
    changed = {"recipe": {"mixup": 0.2}}
    leave_run(table, table.rows[1], "c", top1=0.95, **changed)
    return entries(table, table.rows, Measurements([tmp_path]))


def test_json_has_all_three_kinds_of_figures(section):
    plain, wrong, odd, pruned = json.loads(FORMATS["json"]([section]))
    assert plain == {
        "paper": "paper",
        "table": "small",
        "row": "plain",
        "overrides": ["data=digits", "recipe=doconv_sample", "trainer.max_epochs=2", "model=lenet_doconv_sample"],
        "published": {"params": 4200, "flops": 281000, "top1": 95.1},
        "printed": {"params": "4.2 k", "flops": "0.281 M", "top1": "95.10%"},
        "computed": {"params": 4218, "flops": 281088, "convention": "macs"},
        "measured": {
            "top1": 91.0,
            "top1_std": 1.414,
            "top5": 99.0,
            "n": 2,
            "seeds": [0, 1],
            "differs": [],
            "devices": ["a cpu"],
        },
        "agrees": True,
        "erratum": None,
        "external": False,
        "note": None,
    }
    assert (wrong["agrees"], wrong["erratum"], wrong["measured"]["differs"]) == (
        False,
        {"params": "7 <k> is right"},
        ["recipe.mixup=0.2"],
    )
    assert (odd["agrees"], odd["erratum"], odd["note"]) == (False, {"flops": "0.3 is"}, "a note")
    assert (pruned["agrees"], pruned["external"], pruned["computed"]) == (None, True, {})


def test_grid_leaves_out_what_no_row_has(section):
    headers, rows = grid(section)
    assert headers == [
        "row",
        "params, k",
        "params computed",
        "FLOPs, M",
        "FLOPs computed",
        "top-1, %",
        "top-1 measured",
        "remarks",
    ]
    assert rows[0] == ["plain", "4.2", "4.2", "0.281", "0.281", "95.10", "91.00 ± 1.41", "n = 2"]
    assert rows[1][1:3] == ["9.9", "**7.1**"]
    assert rows[1][-1] == "erratum, params: 7 <k> is right; * measured with recipe.mixup=0.2; n = 1"
    assert rows[1][-2] == "95.00*"
    assert rows[2][-1] == "a note; erratum, FLOPs: 0.3 is; n = 2"
    assert rows[3] == ["pruned", "1.0", "", "", "", "", "", "external"]


def test_tally_counts_each_kind(section):
    assert tally(section) == "4 rows: 1 agree, 2 with an erratum, 1 external"


def test_what_differs_without_a_reason_is_counted_too(write):
    table = write(rows=[{"row": "plain", "overrides": [], "params": "4.1"}, {"row": "bare", "overrides": []}])
    assert tally(entries(table, table.rows, Measurements([]))) == "2 rows: 1 differ, 1 without published counts"


def test_csv_is_one_line_a_row(section):
    lines = list(csv.DictReader(io.StringIO(FORMATS["csv"]([section]))))
    assert [line["row"] for line in lines] == [row["row"] for row in ROWS]
    assert (lines[0]["published_params"], lines[0]["computed_params"], lines[0]["measured_seeds"]) == (
        "4200",
        "4218",
        "0; 1",
    )


def test_markdown_escapes_the_bar(section):
    text = FORMATS["markdown"]([section])
    assert "### T\n\n`table=paper/small` · 4 rows: 1 agree" in text
    assert "| wrong / not right | 9.9 | **7.1** |" in text


def test_html_escapes_and_stands_alone(section):
    text = FORMATS["html"]([section])
    assert text.startswith("<!DOCTYPE html>")
    assert "<td><b>7.1</b></td>" in text
    assert "7 &lt;k&gt; is right" in text


def test_a_terminal_has_the_remarks_below(section):
    console = Console(width=120, file=io.StringIO(), highlight=False)
    console.print(as_rich(section))
    text = console.file.getvalue()
    assert "≠ 7.1" in text
    assert "\n3 a note; erratum, FLOPs: 0.3 is" in text


def test_page_collects_what_does_not_come_out(section):
    text = page([section])
    assert "| paper/small | T | 4 rows: 1 agree, 2 with an erratum, 1 external |" in text
    assert "- paper/small, wrong | not right, params: 9.9 k printed, 7.1 computed; 7 <k> is right." in text
    assert "- paper/small, odd, FLOPs: 0.4 M printed, 0.3 computed; 0.3 is." in text
    assert "- `bsconv`: " in text
    assert "## P: someone\n\n### T" in text
