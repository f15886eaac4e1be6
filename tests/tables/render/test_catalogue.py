import csv
import io
import json

import pytest
from rich.console import Console

from efficientconv.tables.load.files import load_table, table_names
from efficientconv.tables.render import catalogue as listing
from efficientconv.tables.render.catalogue import print_list


@pytest.fixture
def listed(capsys):
    def read(format):
        print_list(format)
        return capsys.readouterr().out

    return read


def test_json_and_csv_have_every_table(listed):
    found = json.loads(listed("json"))
    assert [line["table"] for line in found] == table_names()
    table = load_table("spconv/cifar10_vgg16")
    line = {"table": table.name, "paper": "SPConv", "title": table.title, "rows": len(table.rows)}
    assert line in found
    read = list(csv.DictReader(io.StringIO(listed("csv"))))
    assert read == [{key: str(value) for key, value in line.items()} for line in found]


def test_markdown_html_and_text(listed):
    title = load_table("spconv/cifar10_vgg16").title
    lines = listed("markdown").splitlines()
    assert lines[:2] == ["| table | paper | title | rows |", "| --- | --- | --- | ---: |"]
    assert any(line.startswith(f"| spconv/cifar10_vgg16 | SPConv | {title} | ") for line in lines)
    html = listed("html")
    assert html.startswith("<!DOCTYPE html>")
    assert f"<tr><td>spconv/cifar10_vgg16</td><td>SPConv</td><td>{title}</td><td>" in html
    assert "spconv/cifar10_vgg16" in listed("text")


@pytest.mark.parametrize("width", [80, 60])
def test_names_are_whole_where_it_is_narrow(listed, monkeypatch, width):
    monkeypatch.setattr(listing, "console", lambda: Console(width=width))
    text = listed("text")
    assert [name for name in table_names() if name not in text] == []
    assert "…" not in text


def test_markdown_escapes_the_bar(listed, write, monkeypatch):
    monkeypatch.setattr(listing, "table_names", lambda: ["paper/small"])
    monkeypatch.setattr(listing, "load_table", lambda name: write(title="a | b"))
    assert listed("markdown").splitlines()[2:] == ["| paper/small | P | a / b | 2 |"]
