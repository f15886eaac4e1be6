import json

import pytest

from efficientconv.errors import UserError
from efficientconv.report.cells import grid
from efficientconv.report.formats import as_csv, as_plain_text
from efficientconv.report.latency import read_latencies, with_latencies
from tests.report.conftest import COUNTS


def contender(conv, form, seconds):
    return {"conv": conv, "form": form, "seconds": seconds}


@pytest.fixture
def bench(tmp_path):
    """Write the figures of a bench of two networks, of which the runs have one."""
    latencies = [contender("standard", "eager", 2e-3), contender("standard", "folded", 1.5e-3)]
    latencies += [contender("bsconv_u", "eager", 1e-3), contender("doconv", "eager", 3e-3)]
    one = {"task": "inference", "images": 1, "contenders": dict(enumerate(latencies))}
    many = one | {"images": 64, "contenders": {"x": contender("standard", "eager", 9.0)}}
    networks = {conv: {"params": params, "macs": macs} for conv, (params, macs) in COUNTS.items()}
    content = {
        "config": {"choices": {"model": "resnet20"}},
        "device": "x86_64, 2 threads",
        "versions": {"torch": "2.14"},
        "contests": [many, {"task": "training"}, one],
        "networks": networks | {"bsconv_u": {"params": 1, "macs": 2}, "doconv": {"params": 1, "macs": 2}},
    }
    file = tmp_path / "bench.json"
    file.write_text(json.dumps(content))
    return file


def test_columns_for_each_form_and_a_note(runs, bench):
    runs.add("conv=standard")
    runs.add("conv=bsconv_u")  # called alike, and another network
    report = with_latencies(runs.report(), read_latencies(bench))
    text = as_plain_text(report)
    assert grid(report)[0][-3:] == ["images/s", "ms, eager", "ms, folded"]
    assert [cell.text for cell in grid(report)[1][0][-2:]] == ["2.00", "1.50"]
    assert [row.latencies for row in report.rows] == [{"eager": 2.0, "folded": 1.5}, {}]
    assert report.about_latency[0] == (
        f"ms: for one image at once, on x86_64, 2 threads, torch 2.14; measured by efficientconv bench ({bench})."
    )
    assert "Not measured by the bench: 1 of 2 rows." in text
    assert as_csv(report).splitlines()[0].endswith(",images_per_second,milliseconds_eager,milliseconds_folded")
    assert as_csv(report).splitlines()[1].endswith(",1000.0,2.0,1.5")
    assert as_csv(report).splitlines()[2].endswith(",1000.0,,")


def test_without_a_bench_there_are_no_columns(runs):
    runs.add("conv=standard")
    report = runs.report()
    assert grid(report)[0][-1] == "images/s"
    assert as_csv(report).splitlines()[0].endswith(",images_per_second")


def test_rows_of_several_networks_have_none(runs, bench):
    runs.add("conv=standard")
    runs.add("conv=bsconv_u")
    report = with_latencies(runs.report(group_by=["model"]), read_latencies(bench))
    assert [row.latencies for row in report.rows] == [{}]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"contests": []}', '{"contests": [{"task": "forward"}]}'])
def test_files_of_something_else(tmp_path, text):
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(
        UserError, match=r"^bench=.*other\.json: not a file of efficientconv bench model; efficientconv"
    ):
        read_latencies(file)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"^bench=.*none\.json: cannot be read: No such file or directory$"):
        read_latencies(tmp_path / "none.json")
