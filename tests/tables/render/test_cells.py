import pytest

from efficientconv.tables.render.cells import grid, remark, remarks_on_all
from efficientconv.tables.render.markup import Cell

COUNTS = {"params": {"unit": "k"}, "flops": {"unit": "M", "convention": "macs"}}


def test_every_header_has_its_unit_and_flops_their_convention(section):
    found = grid(section)
    assert found.headers == [
        "row",
        "params, k",
        "computed\nparams, k",
        "FLOPs, M",
        "computed\nFLOPs, M\n(macs)",
        "top-1, %",
        "measured\ntop-1, %",
    ]
    first, second, _, last = found.rows
    assert texts(first) == ["plain", "4.2", "4.2", "0.281", "0.281", "95.10", "91.00 ± 1.41"]
    assert second[1:3] == [Cell("9.9"), Cell("7.1", differs=True)]
    assert second[-1].text == "95.00*"
    assert texts(last) == ["pruned", "1.0", "", "", "", "", ""]
    assert found.remarks == list(map(remark, section))


def texts(row):
    return [cell.text for cell in row]


def test_remarks_say_what_figures_do_not(section):
    assert list(map(remark, section)) == [
        "n = 2",
        "erratum, params: 7 <k> is right; * measured with recipe.mixup=0.2; n = 1",
        "a note; erratum, FLOPs: 0.3 is",
        "external",
    ]


def test_columns_that_no_row_has_are_left_out(write, entries_of):
    found = grid(entries_of(write(rows=[{"row": "bare", "overrides": []}])))
    assert found.headers == ["row", "computed\nparams, k", "computed\nFLOPs, M\n(macs)"]
    assert list(map(texts, found.rows)) == [["bare", "4.22", "0.28"]]
    assert found.remarks == [""]


def test_columns_keep_their_order_where_the_first_row_has_none_of_them(write, entries_of):
    rows = [{"row": "pruned", "external": "true", "flops": "0.1"}, {"row": "bare", "overrides": [], "params": "4.2"}]
    headers = grid(entries_of(write(rows=rows))).headers
    assert headers == ["row", "params, k", "computed\nparams, k", "FLOPs, M", "computed\nFLOPs, M\n(macs)"]


def test_a_table_without_counts_shows_exact_ones(write, entries_of):
    found = grid(entries_of(write(columns={"top1": {"unit": "%"}}, rows=[{"row": "bare", "overrides": []}])))
    assert found.headers == ["row", "computed\nparams", "computed\nFLOPs\n(macs)"]
    assert list(map(texts, found.rows)) == [["bare", "4,218", "281,088"]]


def test_a_cost_that_is_not_another_row_s_is_marked(write, entries_of):
    rows = [{"row": "a", "overrides": []}, {"row": "b", "overrides": ["conv=doconv"], "same_cost_as": "a"}]
    found = grid(entries_of(write(columns={"top1": {"unit": "%"}}, rows=rows)))
    assert found.rows[1] == [Cell("b"), Cell("7,053", differs=True), Cell("281,088")]
    assert found.remarks[1] == "costs as much as a"


def test_a_needless_erratum_is_called_so(write, entries_of):
    row = {"row": "a", "overrides": [], "params": "4.2", "erratum": {"params": "why"}}
    (entry,) = entries_of(write(rows=[row]))
    assert remark(entry) == "needless erratum, params: why"


@pytest.mark.parametrize(
    ("row", "of_all", "remarked"),
    [
        ({"convention": "bsconv"}, {}, "FLOPs by bsconv"),
        ({"convention": "macs"}, {}, ""),
        ({"without_norms": "true"}, {}, "params without batch norms"),
        ({"folded": "true"}, {}, "folded"),
        ({"folded": "true"}, {"folded": "true"}, ""),
        ({"folded": "false"}, {"folded": "true"}, "not folded"),
    ],
)
def test_a_row_remarks_its_own_switches(write, entries_of, row, of_all, remarked):
    (entry,) = entries_of(write(columns=COUNTS, rows=[{"row": "a", "overrides": [], **row}], **of_all))
    assert remark(entry) == remarked


def test_the_number_without_norms_is_the_one_beside_the_published(write, entries_of):
    overrides = ["model=resnet20", "model.data_norm=false"]
    row = {"row": "a", "overrides": overrides, "params": "270.9", "without_norms": "true"}
    found = grid(entries_of(write(columns=COUNTS, rows=[row], overrides=[])))
    assert texts(found.rows[0])[:3] == ["a", "270.9", "270.9"]


def test_what_holds_of_all_rows_is_said_once(write, small):
    assert remarks_on_all(small) == ""
    truncated = {"unit": "k", "truncated": "true"}
    table = write(columns={"params": truncated, "flops": COUNTS["flops"], "top1": truncated}, folded="true")
    assert remarks_on_all(table) == "Counted as folded for inference. Cut off behind the last digit: params, top-1."
