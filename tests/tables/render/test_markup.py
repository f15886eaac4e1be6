import csv
import io
import json

from efficientconv.tables.render.markup import Cell, csv_text, html_page, html_table, json_text, markdown_table

HEADERS = ("name", "computed\nfigure")
ROWS = [[Cell("a | <b>"), Cell("1")], [Cell("**c**"), Cell("2", differs=True)]]


def test_markdown():
    assert markdown_table(HEADERS, ROWS, "lr").splitlines() == [
        "| name | computed figure |",
        "| --- | ---: |",
        "| a / <b> | 1 |",
        "| **c** | **2** |",
    ]


def test_html_has_a_page_of_its_own():
    assert html_table(HEADERS, ROWS).splitlines() == [
        "<table>",
        "<tr><th>name</th><th>computed<br>figure</th></tr>",
        "<tr><td>a | &lt;b&gt;</td><td>1</td></tr>",
        "<tr><td>**c**</td><td><b>2</b></td></tr>",
        "</table>",
    ]
    page = html_page("<p>ü</p>")
    assert page.startswith('<!DOCTYPE html>\n<html><head><meta charset="utf-8">')
    assert page.endswith("<body>\n<p>ü</p>\n</body></html>\n")


def test_csv_keeps_every_character_but_not_none():
    text = csv_text(HEADERS, [['a, "b"\nc', None], ["d", 2]])
    assert list(csv.reader(io.StringIO(text))) == [list(HEADERS), ['a, "b"\nc', ""], ["d", "2"]]
    assert "\r" not in text


def test_json_is_plain_to_read():
    assert json_text([{"α": None}]) == '[\n  {\n    "α": null\n  }\n]\n'
    assert json.loads(json_text([1, "a"])) == [1, "a"]
