import pytest

from efficientconv.errors import UserError
from efficientconv.report.cells import notes


def by_name(report):
    return {row.configuration.name: row for row in report.rows}


def test_means_and_spreads_over_seeds(sweep):
    row = by_name(sweep.report())["model=resnet20 conv=standard"]
    assert row.mean == pytest.approx(91)
    assert row.std == pytest.approx(1)
    assert (row.params, row.macs, row.images_per_second) == (272_474, 40_800_000, 1000)


def test_each_row_is_compared_with_the_baseline_that_is_like_it(sweep):
    rows = by_name(sweep.report())
    assert [row.is_baseline for row in rows.values()] == [True, False, True, False]  # the baseline first
    assert rows["model=resnet20 conv=bsconv_u"].comparison.difference == pytest.approx(-2)
    assert rows["model=resnet32 conv=bsconv_u"].comparison.difference == pytest.approx(4 / 3)
    assert rows["model=resnet20 conv=standard"].comparison is None


def test_p_is_corrected_for_all_comparisons_of_the_report(sweep):
    rows = sweep.report().rows
    smaller, larger = sorted((row for row in rows if row.comparison), key=lambda row: row.comparison.p)
    assert smaller.p == pytest.approx(2 * smaller.comparison.p)
    assert larger.p == pytest.approx(max(larger.comparison.p, smaller.p))


def test_the_best_and_the_second_of_each_model_are_numbered(sweep):
    assert [row.rank for row in sweep.report().rows] == [1, 2, 2, 1]
    assert [row.block for row in sweep.report().rows] == [0, 0, 1, 1]


def test_equal_means_share_a_number_and_a_row_alone_has_none(runs):
    runs.add("conv=standard", top1=0.9)
    runs.add("conv=bsconv_u", top1=0.9)
    runs.add("model=resnet32", "conv=bsconv_u", top1=0.9)
    assert [row.rank for row in runs.report().rows] == [1, 1, None]


def test_a_model_may_be_the_baseline(sweep):
    rows = by_name(sweep.report(baseline="resnet20"))
    assert rows["model=resnet32 conv=standard"].comparison.difference == pytest.approx(3)
    assert rows["model=resnet32 conv=bsconv_u"].comparison.difference == pytest.approx(95 + 1 / 3 - 89)


def test_other_epochs_are_not_compared(runs):
    runs.add("conv=standard", top1=0.9)
    runs.add("conv=bsconv_u", "trainer.max_epochs=5", top1=0.8)
    report = runs.report()
    assert len(report.settings) == 2
    assert [row.comparison for row in report.rows] == [None, None]
    assert [row.rank for row in report.rows] == [None, None]


def test_the_usual_baseline_need_not_be_there_one_that_is_asked_for_must(runs):
    runs.add("conv=bsconv_u")
    assert runs.report().baseline is None
    with pytest.raises(UserError, match=r"^baseline=standard: no run has this conv or model; nearest: bsconv_u, "):
        runs.report(baseline="standard")


def test_a_baseline_must_be_one_row_of_its_block(runs):
    for p in (0.25, 0.5):
        runs.add("conv=bsconv_s", f"conv.layer.p={p}")
    runs.add("conv=standard")
    message = r"^baseline=bsconv_s: is not one row but several \(conv=bsconv_s conv.layer.p=0.25 and .*group_by=conv$"
    with pytest.raises(UserError, match=message):
        runs.report(baseline="bsconv_s")
    assert runs.report(["conv"], baseline="bsconv_s").rows[0].is_baseline


def test_grouping_by_something_else_leaves_no_baseline(sweep):
    report = sweep.report(["model"])
    assert report.baseline is None
    assert [row.block for row in report.rows] == [0, 0]
    with pytest.raises(UserError, match=r"^baseline=standard: group_by=model averages over conv; add conv to it$"):
        sweep.report(["model"], baseline="standard")


def test_a_group_s_values_are_means_by_seed(sweep):
    (standard,) = (row for row in sweep.report(["conv"]).rows if row.is_baseline)
    assert standard.top1 == pytest.approx({0: 91.5, 1: 92.5, 2: 93.5})
    assert standard.params == 272_474


def test_a_figure_on_which_runs_disagree_is_left_out(runs):
    runs.add("seed=0", params=10, device="A", images_per_second=1.0)
    runs.add("seed=1", params=20, device="B", images_per_second=2.0)
    (row,) = runs.report().rows
    assert (row.params, row.images_per_second) == (None, None)


def test_speeds_under_other_conditions_have_no_median(runs):
    runs.add("seed=0", "trainer.precision=32-true")
    runs.add("seed=1", "trainer.precision=bf16-mixed")
    report = runs.report()
    assert report.rows[0].images_per_second is None
    assert "The runs are not all of one trainer.precision: 32-true, bf16-mixed." in notes(report)


def test_metrics(runs):
    on_validation = {"evaluated_on": "validation", "test": {"top1": 0.7, "top5": 0.9}}
    runs.add("data.val_split=0.1", top1=0.8, **on_validation)
    for metric, value in (("last", 80), ("best", 81), ("test", 70)):
        assert runs.report(metric=metric).rows[0].mean == pytest.approx(value)


def test_without_a_validation_part_the_test_accuracy_is_the_last_one(runs):
    runs.add(top1=0.8)
    assert runs.report(metric="test").rows[0].mean == pytest.approx(80)


def test_runs_without_the_accuracy_are_left_out_and_told(runs):
    runs.add("seed=0")
    runs.add("seed=1", last={}, best={})
    report = runs.report()
    assert report.left_out == ["without this accuracy, and left out: 1 finished"]
    assert len(report.rows[0].top1) == 1


def test_no_run_with_the_accuracy_is_an_error(runs):
    runs.add(evaluated_on="validation")
    message = r"^metric=test: none of the 1 finished runs has this accuracy; metric=last is what every evaluated run"
    with pytest.raises(UserError, match=message):
        runs.report(metric="test")
