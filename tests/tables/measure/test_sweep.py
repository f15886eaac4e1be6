import pytest
from hydra.errors import HydraException

from efficientconv.errors import UserError
from efficientconv.tables.measure.sweep import fetch_data, jobs, outputs_of, require_classes, sweep_overrides, trainings


def test_a_row_is_trained_with_the_words_of_its_table(write):
    table = write(seeds=["0", "1"], overrides=["data=image_folder", "data.image_size=32", "recipe=cosine_cifar"])
    row = table.rows[1]
    start = ["sweep=table-paper-small", "seed=0,1"]
    assert sweep_overrides(table, row, []) == [*start, *table.overrides, "conv=doconv"]
    other_data = ["data=digits", "trainer.max_epochs=1"]
    assert sweep_overrides(table, row, other_data) == [*start, "recipe=cosine_cifar", "conv=doconv", *other_data]
    assert sweep_overrides(table, row, ["seed=5"]) == [start[0], *table.overrides, "conv=doconv", "seed=5"]


def test_runs_on_several_devices_are_kept_apart_from_those_on_one(small):
    words = ["trainer.devices=2", "seed=5"]
    assert sweep_overrides(small, small.rows[1], words)[0] == "sweep=table-paper-small-devices-2"
    assert sweep_overrides(small, small.rows[1], ["trainer.devices=[0,1]"])[0] == "sweep=table-paper-small-devices-0-1"


def test_jobs_are_those_of_a_sweep():
    assert jobs(["data=digits", "seed=0,1", "recipe.optimizer.lr=0.1,0.2"]) == [
        ("data=digits", "seed=0", "recipe.optimizer.lr=0.1"),
        ("data=digits", "seed=0", "recipe.optimizer.lr=0.2"),
        ("data=digits", "seed=1", "recipe.optimizer.lr=0.1"),
        ("data=digits", "seed=1", "recipe.optimizer.lr=0.2"),
    ]
    assert jobs(["seed=range(2)", "~callbacks.ema"]) == [("seed=0", "~callbacks.ema"), ("seed=1", "~callbacks.ema")]
    with pytest.raises(HydraException, match=r"no viable alternative at input '\[1'"):
        jobs(["seed=[1"])


def test_trainings_are_the_table_s_with_the_user_s_overrides(write):
    table = write(seeds=["3", "4"])
    assert [(seed, found["data"]["val_split"]) for seed, found in trainings(table, [])] == [("3", 0.0), ("4", 0.0)]
    words = ["seed=5", "data=mnist", "data.val_split=0.1,0.2"]
    found = [(seed, found["choices"]["data"], found["data"]["val_split"]) for seed, found in trainings(table, words)]
    assert found == [("5", "mnist", 0.1), ("5", "mnist", 0.2)]


def test_words_that_do_not_compose_are_the_user_s(small):
    with pytest.raises(UserError, match=r"^data\.val_spilt: there is no such key; nearest: data\.val_split"):
        list(trainings(small, ["data.val_spilt=0.1"]))
    with pytest.raises(UserError, match=r"^data=minst: there is no such data; nearest first: mnist"):
        list(trainings(small, ["data=minst"]))


def test_where_training_writes_to():
    assert outputs_of(["data=mnist"]) == "outputs"
    assert outputs_of(["outputs=a", 'outputs="my runs"', "seed=0,1"]) == "my runs"


MNIST = ["data=mnist", "data.download=false", "conv=doconv", "seed=0,1", "sweep=x"]


def test_data_that_is_there_is_not_fetched(tiny_mnist):
    assert fetch_data([*MNIST, f"data.root={tiny_mnist}"]) is None
    assert fetch_data(["data=digits"]) is None


def test_why_data_cannot_be_had_is_said(tmp_path):
    reason = fetch_data([*MNIST, f"data.root={tmp_path}"])
    assert reason is not None
    assert reason.startswith(f"data=mnist: looked in {tmp_path}/MNIST/raw (missing: ")
    assert "\n" not in reason


def test_what_makes_no_single_data_set_is_left_to_training(tmp_path):
    assert fetch_data([*MNIST, f"data.root={tmp_path},elsewhere"]) is None
    assert fetch_data([*MNIST, f"data.root={tmp_path}", "data.val_split=2"]) is None
    assert fetch_data([*MNIST, f"data.root={tmp_path}", "data.vall_split=0"]) is None


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (["data=digits"], "data=digits: has 10 classes"),  # known once it is read
        (["data=random", "data.classes=7"], "data=random: has 7 classes"),  # known at once
        (["data=digits", "seed=0,1", "data.val_split=0,0.1"], "data=digits: has 10 classes"),
    ],
)
def test_data_with_other_classes_is_refused(write, words, refusal):
    table = write(classes="100")
    message = f"^{refusal}; must have 100, as the networks of paper/small$"
    with pytest.raises(UserError, match=message):
        require_classes(table, table.rows[0], words)


def test_data_with_as_many_classes_and_what_only_training_can_tell_are_not_refused(write, tmp_path):
    table = write(classes="100")
    require_classes(table, table.rows[0], ["data=random", "data.classes=100"])
    require_classes(table, table.rows[0], ["data=mnist", f"data.root={tmp_path}"])
    require_classes(table, table.rows[0], ["data=digits", "data.val_split=2"])
    require_classes(table, table.rows[0], ["trainer.max_epochs=1"])  # nobody has chosen other data
