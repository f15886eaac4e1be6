import re

import pytest

from efficientconv.errors import UserError
from efficientconv.report import tool


@pytest.fixture
def report(sweep, capsys):
    """Run the tool over the sweep; return what it printed."""

    def run(**config):
        defaults = {"places": [str(sweep.root)], "group_by": None, "baseline": None, "metric": "last", "bench": None}
        tool.run(defaults | {"format": "text", "save": None} | config)
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize(
    ("format", "beginning"),
    [("text", "model · conv"), ("markdown", "| model | conv |"), ("csv", "setting,model,conv,"), ("latex", "% top-1")],
)
def test_text_goes_to_standard_output_or_a_file(report, format, beginning, tmp_path):
    printed = report(format=format)
    assert printed.startswith(beginning)
    file = tmp_path / "new" / "file"
    assert report(format=format, save=str(file)) == f"{file}\n"
    assert [line.rstrip() for line in file.read_text().splitlines()] == [line.rstrip() for line in printed.splitlines()]


@pytest.mark.parametrize(("format", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_pictures_go_beside_the_runs(report, sweep, format, magic):
    pytest.importorskip("matplotlib")
    file = sweep.root / f"report.{format}"
    assert report(format=format) == f"{file}\n"
    assert file.read_bytes().startswith(magic)


def test_a_page_goes_beside_the_runs(report, sweep):
    pytest.importorskip("vl_convert")
    file = sweep.root / "report.html"
    assert report(format="html") == f"{file}\n"
    assert 'href="run01/"' in file.read_text()
    assert len(list(sweep.root.iterdir())) == 13  # 12 runs and the page: nothing half-written is left


def test_a_page_elsewhere_links_to_the_runs_from_there(report, sweep, tmp_path):
    pytest.importorskip("vl_convert")
    file = tmp_path / "pages" / "a.html"
    report(format="html", save=str(file))
    (link,) = set(re.findall(r'href="([^"]*run01/)"', file.read_text()))
    assert (file.parent / link).resolve() == sweep.root / "run01"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"places": []}, r"^efficientconv report: say where the runs are: efficientconv report outputs/sweeps/<name>$"),
        ({"format": "htm"}, r"^format=htm: there is no such format; nearest first: html, "),
        ({"metric": "top1"}, r"^metric=top1: there is no such metric; nearest first: "),
        ({"group_by": 3}, r"^group_by=3: must be options with commas between, such as conv,model$"),
        ({"save": "."}, r"^save=\.: is a directory; name a file in it$"),
        ({"baseline": "standrd"}, r"^baseline=standrd: no run has this conv or model; nearest: standard, "),
    ],
)
def test_what_cannot_be_is_one_line(report, config, message):
    with pytest.raises(UserError, match=message):
        report(**config)
