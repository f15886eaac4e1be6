import pytest

from efficientconv.report.cells import grid, millions, notes, p_value, rounded, signed


def test_a_row_says_accuracy_difference_and_costs(sweep):
    headers, rows = grid(sweep.report())
    assert headers[:6] == ["model", "conv", "top-1, %", "n", "vs standard", "95% interval"]
    assert headers[6:] == ["p", "params, M", "MACs, M", "images/s"]
    texts = [[cell.text for cell in row] for row in rows]
    assert texts[0] == ["resnet20", "standard", "91.00 ± 1.00", "3", "baseline", "", "", "0.272", "40.8", "1,000"]
    assert texts[1][:5] == ["resnet20", "bsconv_u", "89.00 ± 1.00", "3", "−2.00"]
    assert texts[1][5:] == ["[−4.48, +0.48]", "0.114", "0.0407", "7.25", "1,000"]
    assert [row[2].rank for row in rows] == [1, 2, 2, 1]


def test_one_seed_has_no_spread_and_no_test_and_the_notes_say_so(runs):
    runs.add("conv=standard", top1=0.9)
    runs.add("conv=bsconv_u", top1=0.88)
    headers, rows = grid(runs.report())
    assert headers == ["conv", "top-1, %", "n", "vs standard", "params, M", "MACs, M", "images/s"]
    assert [row[1].text for row in rows] == ["90.00", "88.00"]
    assert notes(runs.report()) == [
        "top-1 accuracy after the last epoch, on test images.",
        "All rows have one seed only: no standard deviation, no test.",
        "vs standard: mean difference over common seeds, in percentage points.",
    ]


def test_notes_tell_how_the_test_was_done(sweep):
    assert notes(sweep.report()) == [
        "top-1 accuracy after the last epoch, on test images (mean ± standard deviation over n seeds).",
        "vs standard: mean difference over common seeds, in percentage points.",
        "95% interval: of each difference alone, Student's t. "
        "p: paired t-test, corrected for 2 comparisons by Holm's method.",
    ]


def test_notes_tell_what_is_not_comparable_and_by_what(runs):
    runs.add_seeds("conv=standard", top1=(0.9, 0.91))
    runs.add("trainer.max_epochs=5")
    runs.add("recipe.optimizer.lr=0.1")
    found = notes(runs.report())
    assert "2 rows have one seed only: no standard deviation, no test." in found
    assert "3 settings are not comparable, and neither averaged nor compared with one another:" in found
    settings = [note for note in found if note.startswith("setting ")]
    assert sorted(note.partition(": ")[2] for note in settings) == [
        "data=digits, recipe=cosine_cifar, 30 epochs, recipe.optimizer.lr=0.1 (1 row)",
        "data=digits, recipe=cosine_cifar, 30 epochs, recipe.optimizer.lr=0.2 (1 row)",
        "data=digits, recipe=cosine_cifar, 5 epochs, recipe.optimizer.lr=0.2 (1 row)",
    ]


def test_notes_tell_of_the_best_epoch_on_the_test_set(runs):
    runs.add()
    assert any("chosen on the test set itself" in note for note in notes(runs.report(metric="best")))
    assert not any("chosen on the test set" in note for note in notes(runs.report()))


def test_notes_tell_of_repeated_seeds_averages_commits_and_devices(runs):
    runs.add("conv=standard", commit="a" * 40, device="A")
    runs.add("conv=standard", commit="b" * 40, device="A")
    runs.add("conv=bsconv_u", commit="b" * 40, device="B")
    found = notes(runs.report())
    assert "1 row with several runs of one seed: their mean counts as one." in found
    assert f"The runs are of 2 commits of the code: {'a' * 12}, {'b' * 12}." in found
    assert "The runs are not all of one device: A, B." in found
    grouped = notes(runs.report(["model"]))
    assert any(note.startswith("model=resnet20: averaged over conv=bsconv_u or standard, conv.") for note in grouped)


def test_notes_tell_that_nothing_is_compared(runs):
    runs.add("conv=bsconv_u")
    assert "Nothing is compared: no row is the baseline; baseline=<conv or model> names one." in notes(runs.report())


def test_notes_tell_of_rows_without_a_comparable_baseline(sweep):
    sweep.add("conv=bsconv_u", "model=resnet56")
    assert "1 row without a comparable baseline, or without a seed in common with it." in notes(sweep.report())


@pytest.mark.parametrize(
    ("value", "text"),
    [(-0.004, "0.00"), (0.0, "0.00"), (-0.126, "−0.13"), (1.5, "+1.50")],
)
def test_differences_have_their_sign(value, text):
    assert signed(value) == text


def test_figures_keep_three_digits():
    assert [millions(n) for n in (40_720, 272_474, 7_250_560, 4_089_000_000)] == ["0.0407", "0.272", "7.25", "4,089"]
    assert [rounded(x) for x in (0.5, 12.34, 44_916.8, None)] == ["0.500", "12.3", "44,917", ""]
    assert [p_value(p) for p in (None, 0.0004, 0.04567, 1.0)] == ["", "<0.001", "0.046", "1.000"]
