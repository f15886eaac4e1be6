import sys

import pytest

from efficientconv import webpage
from efficientconv.errors import UserError
from efficientconv.webpage import Chart, Header, Link, Page, PageCell

NAME = '<b>&"</b></script>'


def page(**changes):
    settings = {
        "title": NAME,
        "lead": "lead",
        "charts": {NAME: Chart({"mark": "point", "data": {"name": "rows"}}, is_wide=True)},
        "data": {"rows": [{"row": 0, "name": NAME}]},
        "headers": [Header(NAME, has_filter=True), Header("figure", is_figure=True), Header("runs")],
        "rows": [
            [PageCell(NAME), PageCell("1,000", 1000.0, "best"), PageCell("", links=(Link("0", "a%20b/"),))],
            [PageCell("x" * 61), PageCell(""), PageCell("")],
        ],
        "notes": [NAME],
    }
    return Page(**settings | changes)


@pytest.fixture
def text(monkeypatch):
    """The page around short scripts, of which one would end its element."""
    jinja2 = pytest.importorskip("jinja2")
    monkeypatch.setattr(webpage, "_packages", lambda: (jinja2, "vega('</script>')", "table()", "td {}"))
    return page().render()


def test_nothing_that_is_shown_can_become_markup_or_script(text):
    assert NAME not in text
    assert "<b>" not in text
    assert text.count("</script>") == text.count("<script") == 3
    assert r"vega('<\/script>')" in text


def test_cells_carry_what_they_are_sorted_by_and_how_they_are_marked(text):
    assert '<td class="best figure" data-order="1000.0">1,000</td>' in text
    assert '<td class=" figure" data-order=""></td>' in text
    assert '<a href="a%20b/">0</a>' in text
    assert '<td class=" long">' in text
    assert '<section class="whole">' in text


def test_nothing_is_loaded_from_anywhere(text):
    for word in (" src=", "<link", "@import", "http"):
        assert word not in text.replace(webpage.SCHEMA, "")  # which only names the version


@pytest.mark.parametrize("package", ["jinja2", "vl_convert", "itables.options"])
def test_a_missing_package_is_one_line_with_the_remedy(monkeypatch, package):
    webpage._packages.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"^format=html: {package} is not installed: pip install 'efficientconv\[report\]'$"
    with pytest.raises(UserError, match=message):
        page().render()
