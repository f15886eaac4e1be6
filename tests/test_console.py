import io

import pytest
from rich.console import Console
from rich.text import Text

from efficientconv.console import console, figures_table

HEADERS = ("name", "computed\nfigures, M", "of all")
ROWS = [("a_name_of_23_characters", "1,298,014,208", "7.5%"), ("short", "12", "100.0%")]


def lines(width):
    console = Console(width=width, file=io.StringIO())
    console.print(figures_table(HEADERS, [list(map(Text, row)) for row in ROWS], width), crop=False)
    return console.file.getvalue().splitlines()


def test_headers_have_their_lines_where_there_is_room():
    assert [line.rstrip() for line in lines(80)] == [
        "                              computed",
        "name                        figures, M  of all",
        "──────────────────────────────────────────────",
        "a_name_of_23_characters  1,298,014,208    7.5%",
        "short                               12  100.0%",
    ]


def test_names_are_folded_first():
    assert [line.rstrip() for line in lines(36)][3:] == [
        "a_name_of_23_  1,298,014,208    7.5%",
        "characters",
        "short                     12  100.0%",
    ]


@pytest.mark.parametrize("width", [1, 20, 30, 34, 40, 60])
def test_figures_are_whole_however_narrow_it_is(width):
    text = "\n".join(lines(width))
    assert all(figure in text for row in ROWS for figure in row[1:])
    assert "…" not in text


def test_lines_fit_where_figures_and_twelve_characters_do():
    least = 12 + 1 + 13 + 1 + 6
    for width in range(least, 60):
        assert max(map(len, lines(width))) <= width


@pytest.mark.parametrize(("told", "width"), [("", 120), ("61", 61), ("many", 120)])
def test_a_file_is_as_wide_as_columns_says(monkeypatch, capsys, told, width):
    monkeypatch.setenv("COLUMNS", told)
    assert console().width == width


def test_brackets_are_printed_as_they_are(capsys):
    console().print("python eval.py run=mine 'allow=[mine]'", soft_wrap=True)
    assert capsys.readouterr().out == "python eval.py run=mine 'allow=[mine]'\n"
