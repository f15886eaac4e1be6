import re
from dataclasses import replace

import pytest

from efficientconv.tables.render.atlas import atlas


@pytest.fixture
def page(section):
    return atlas([section])


def column(page, header):
    names = [each.text for each in page.headers]
    return [row[names.index(header)] for row in page.rows]


def test_published_computed_and_measured_stand_side_by_side(page):
    names = [header.text for header in page.headers]
    assert names[:6] == ["paper", "table", "row", "data", "backbone", "conv"]
    assert names[6:10] == ["params", "computed params", "FLOPs", "computed FLOPs"]
    assert names[-1] == "remarks"
    assert [cell.text for cell in column(page, "params")] == ["4.2 k", "9.9 k", "", "1.0 k"]
    assert [cell.text for cell in column(page, "computed params")][:2] == ["4.2 k", "7.1 k"]
    assert [cell.order for cell in column(page, "computed params")][:2] == [4218.0, 7053.0]
    assert [cell.text for cell in column(page, "measured top-1")][:2] == ["91.00 ± 1.41", "95.00*"]


def test_figures_that_do_not_come_out_are_marked(page):
    assert [cell.mark for cell in column(page, "computed params")] == ["", "differs", "", ""]
    assert column(page, "remarks")[1].text.startswith("erratum, params: 7 <k> is right")


def test_rows_are_told_by_their_options(page):
    assert {cell.text for cell in column(page, "data")} == {"digits"}
    assert [cell.text for cell in column(page, "backbone")] == ["lenet_doconv_sample"] * 3 + [""]
    assert [cell.text for cell in column(page, "conv")] == ["standard", "doconv", "standard", "external"]
    assert [header.text for header in page.headers if header.has_filter] == [
        "paper",
        "table",
        "data",
        "backbone",
        "conv",
    ]


def test_there_is_a_chart_for_each_data_set_and_cost(page):
    assert list(page.charts) == ["digits: top-1 against parameters", "digits: top-1 against MACs"]
    assert [record["top1"] for record in page.data["rows"]] == [95.1, 95.6]
    assert [record["top1"] for record in page.data["measured"]] == [91.0, 95.0]
    assert page.data["rows"][0]["params"] == 4218


def test_what_was_measured_on_other_data_is_plotted_with_those(section):
    measured = {**section[0].measured, "differs": ["data=mnist", "recipe=cosine_cifar"]}
    page = atlas([[replace(section[0], measured=measured), *section[1:]]])
    assert [record["data"] for record in page.data["measured"]] == ["mnist", "digits"]
    assert list(page.charts)[2:] == ["mnist: top-1 against parameters", "mnist: top-1 against MACs"]


def test_curves_join_the_rows_of_one_convolution(write, entries_of):
    rows = [
        {"row": f"{conv} {width}", "overrides": [f"conv={conv}", f"model.width={width}"], "top1": "90.0"}
        for conv in ("standard", "bsconv_u")
        for width in (1, 2)
    ]
    words = ["data=digits", "recipe=doconv_sample", "model=resnet20"]
    records = atlas([entries_of(write(rows=rows, overrides=words))]).data["rows"]
    assert [record["family"] for record in records] == ["paper/small resnet conv=standard"] * 2 + [
        "paper/small resnet conv=bsconv_u"
    ] * 2


def test_a_table_without_accuracies_has_no_chart(write, entries_of):
    page = atlas([entries_of(write(rows=[{"row": "a", "overrides": [], "params": "4.2"}]))])
    assert page.charts == {}
    assert "top-1" not in [header.text for header in page.headers]


def test_the_page_stands_alone_and_escapes(section):
    pytest.importorskip("vl_convert")
    text = atlas([section]).render()
    assert text.startswith("<!DOCTYPE html>")
    assert "7 &lt;k&gt; is right" in text
    assert "7 <k> is right" not in text
    assert re.findall(r'(?:src|href)="(?!#)[^"]*"', text.partition("<script>")[0]) == []


def test_notes_tell_where_each_table_is_from(page):
    assert page.notes == [
        "paper/small: T: P: someone. 4 rows: 1 agrees, 2 with an erratum, 1 external. S. FLOPs by the convention macs."
    ]
