import pytest

from efficientconv.report.curves import Point, curve


def test_mean_and_spread_for_each_epoch(runs):
    runs.add("seed=0", curve=(0.5, 0.7), top1=0.9)
    runs.add("seed=1", curve=(0.6, 0.7), top1=0.94)
    points = curve(runs.report().rows[0].configuration)
    assert [point.epoch for point in points] == [1, 2, 3]
    assert [point.mean for point in points] == pytest.approx([55, 70, 92])
    half = 5 * 2**0.5  # the standard deviation of 50 and 60
    assert (points[0].low, points[0].high) == pytest.approx((55 - half, 55 + half))
    assert (points[1].low, points[1].high) == pytest.approx((70, 70))


def test_epochs_without_an_evaluation_are_left_out(runs):
    runs.add(curve=(0.5, ""), top1=0.9)
    assert curve(runs.report().rows[0].configuration) == [Point(1, 50, 50, 50), Point(3, 90, 90, 90)]


@pytest.mark.parametrize("content", [None, "", "epoch,val/top1\n1\n", "epoch,val/top1\n1,x\n", "a,b\n1,2\n"])
def test_a_missing_or_damaged_file_has_no_curve(runs, content):
    directory = runs.add()
    file = directory / "metrics.csv"
    file.unlink() if content is None else file.write_text(content)
    assert curve(runs.report().rows[0].configuration) == []
