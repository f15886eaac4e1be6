import sys
from itertools import combinations

import pytest

from efficientconv.bench import picture
from efficientconv.bench.contest import Contest
from efficientconv.bench.picture import Point, draw, points_of, require_drawable, save
from efficientconv.bench.rounds import Rounds
from efficientconv.errors import UserError

CROWD = [Point("standard", 40.8e6, 4.5e-4), Point("acnet", 40.8e6, 4.9e-4), Point("repvgg", 40.8e6, 4.9e-4)]
CROWD += [Point("doconv", 40.8e6, 5.4e-4), Point("odconv", 41.5e6, 5.4e-4), Point("condconv", 41e6, 5.3e-4)]
CROWD += [Point("bsconv_s", 4.5e6, 3e-4), Point("bdrconv", 6.5e6, 1e-3), Point("bsconv_u", 7.3e6, 2e-4)]


def test_labels_cover_neither_points_nor_one_another():
    figure = draw(CROWD, "title")
    axes = figure.axes[0]
    boxes = {label.get_text(): picture._extent(label) for label in axes.texts}
    assert boxes.keys() == {point.conv for point in CROWD}
    for a, b in combinations(boxes.values(), 2):
        assert not a.overlaps(b)
    for point in CROWD:
        dot = axes.transData.transform((point.macs / 1e6, 1e3 * point.seconds))
        assert not any(box.contains(*dot) for box in boxes.values())
    assert all(picture._holds(axes.get_window_extent(), box) for box in boxes.values())


def test_the_line_goes_through_the_reference_in_proportion():
    line = picture._line(draw(CROWD, "").axes[0], CROWD[0])
    for macs, milliseconds in line:
        assert milliseconds == pytest.approx(0.45 * macs / 40.8)
    assert line[0][0] < 4.5
    assert line[-1][0] > 41.5


def test_points_are_times_of_one_image():
    rounds = Rounds("standard folded", {"standard folded": [200.0, 100.0, 400.0], "x eager": [50.0] * 3})
    macs = {"standard folded": 7, "x eager": 5}
    contest = Contest("p", "inference", "standard", ("eager", "folded"), ("standard", "x"), 64, rounds, macs=macs)
    assert points_of(contest, "folded") == [Point("standard", 7, pytest.approx(1 / 200))]
    assert points_of(contest, "eager") == [Point("x", 5, pytest.approx(1 / 50))]


@pytest.mark.parametrize(("suffix", "begins"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_files(tmp_path, suffix, begins):
    file = tmp_path / "unnamed"
    save(CROWD, "title", file, suffix)
    first = file.read_bytes()
    assert first.startswith(begins)
    assert len(first) < 100_000
    save(CROWD, "title", file, suffix)
    assert file.read_bytes() == first  # the same figures, the same file


@pytest.mark.parametrize("files", ["a.png", ["a.png", "b.gif"], None])
def test_what_is_no_picture(files):
    with pytest.raises(UserError, match=r"plot=.*: must be files that end in \.png, \.svg, \.pdf"):
        require_drawable(files)


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        UserError, match=r"plot=a\.png: matplotlib is not installed: pip install 'efficientconv\[report]'"
    ):
        require_drawable(["a.png"])
    require_drawable([])
