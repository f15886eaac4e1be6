import pytest

from efficientconv.errors import UserError
from efficientconv.report.configurations import configurations
from efficientconv.report.runs import find_runs


def rows_of(runs, group_by=()):
    return configurations(find_runs([runs.root]).runs, group_by)


def test_runs_that_differ_by_the_seed_alone_are_one_row(sweep):
    rows = rows_of(sweep)
    assert [row.options for row in rows] == [
        {"model": "resnet20", "conv": "bsconv_u"},
        {"model": "resnet20", "conv": "standard"},
        {"model": "resnet32", "conv": "bsconv_u"},
        {"model": "resnet32", "conv": "standard"},
    ]
    assert [[run.seed for run in row.runs] for row in rows] == [[0, 1, 2]] * 4
    assert rows[0].name == "model=resnet20 conv=bsconv_u"


def test_only_what_differs_is_a_column_and_by_its_own_name(runs):
    for p in (0.25, 0.5):
        runs.add("conv=bsconv_s", f"conv.layer.p={p}")
    runs.add("conv=standard")
    assert [row.options for row in rows_of(runs)] == [
        {"conv": "bsconv_s", "conv.layer.p": "0.25"},
        {"conv": "bsconv_s", "conv.layer.p": "0.5"},
        {"conv": "standard", "conv.layer.p": ""},
    ]


def test_numbers_are_in_the_order_of_their_values(runs):
    for rate in ("0.2", "0.05", "0.1", "10"):
        runs.add(f"recipe.optimizer.lr={rate}")
    found = [row.options["recipe.optimizer.lr"] for row in rows_of(runs)]
    assert found == ["0.05", "0.1", "0.2", "10"]


def test_an_option_that_no_command_line_names_tells_rows_apart_too(runs):
    """As where a default was changed between two runs."""
    runs.add()
    other = runs.add()
    file = other / "config.yaml"
    file.write_text(file.read_text().replace("weight_decay: 0.0005", "weight_decay: 0.0001"))
    assert [row.options for row in rows_of(runs)] == [
        {"recipe.optimizer.weight_decay": "0.0001"},
        {"recipe.optimizer.weight_decay": "0.0005"},
    ]


def test_one_configuration_still_has_a_column(runs):
    runs.add_seeds(top1=(0.9, 0.91))
    (row,) = rows_of(runs)
    assert row.options == {"conv": "standard"}


def test_other_data_epochs_and_recipes_are_rows_of_their_own_even_when_grouped(runs):
    runs.add()
    runs.add("trainer.max_epochs=5")
    runs.add("data=cifar10")
    runs.add("recipe=bsconv_cifar", "trainer.max_epochs=30")
    rows = rows_of(runs, ["conv"])
    assert len(rows) == len({row.setting for row in rows}) == 4
    assert len({tuple(row.options.items()) for row in rows}) == 4


def test_what_changes_the_speed_alone_parts_no_rows(runs):
    runs.add("seed=0", "trainer.precision=32-true")
    runs.add("seed=1", "trainer.precision=bf16-mixed", "compile=true", "data.eval_batch_size=10")
    assert len(rows_of(runs)) == 1


def test_grouping_averages_over_what_it_leaves_out_and_tells(sweep):
    rows = rows_of(sweep, ["conv"])
    assert [row.options for row in rows] == [{"conv": "bsconv_u"}, {"conv": "standard"}]
    assert [len(row.runs) for row in rows] == [6, 6]
    assert rows[0].mixed["model"] == ["resnet20", "resnet32"]


def test_an_unknown_option_is_refused_with_the_nearest(sweep):
    with pytest.raises(UserError, match=r"^group_by=cnv: no run has such an option; nearest: conv, "):
        rows_of(sweep, ["cnv"])
