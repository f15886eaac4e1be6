import csv

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from efficientconv.config_path import CONFIGS
from efficientconv.errors import UserError
from efficientconv.runs.directory import RunDirectory
from efficientconv.tables.count.configurations import composed_training
from efficientconv.tables.measure.runs import Measurements, Run, write_csv_file
from efficientconv.training.train import train


def test_runs_of_a_row_are_found_by_their_network(small, leave_run, tmp_path):
    plain, doconv = small.rows
    leave_run(small, plain, "a/0", seed=0, top1=0.90)
    leave_run(small, plain, "a/1", seed=1, top1=0.92)
    leave_run(small, doconv, "b", top1=0.95)
    leave_run(small, plain, "unfinished", seed=2, summary={"status": "running"})
    found = Measurements([tmp_path / "outputs"])
    assert found.measured(small, plain) == {
        "top1": 91.0,
        "top1_std": 1.414,
        "top5": 99.0,
        "n": 2,
        "seeds": [0, 1],
        "differs": [],
        "devices": ["a cpu"],
    }
    assert found.measured(small, doconv)["top1_std"] is None
    assert Measurements([tmp_path / "elsewhere"]).measured(small, plain) == {}


def test_what_was_not_as_published_is_said(small, leave_run, tmp_path):
    plain = small.rows[0]
    leave_run(small, plain, "as published")
    leave_run(small, plain, "short", seed=1, **composed_training(small, ["data=mnist", "trainer.max_epochs=1"]))
    differs = {run.seed: run.differs for run in Measurements([tmp_path]).runs(small, plain)}
    assert differs == {0: "", 1: "data=mnist; trainer.max_epochs=1"}


def test_a_run_on_two_devices_is_not_as_published(small, leave_run, tmp_path):
    plain = small.rows[0]
    leave_run(small, plain, "ddp", summary={"devices": 2}, **composed_training(small, ["trainer=ddp"]))
    found = Measurements([tmp_path])
    assert found.measured(small, plain)["differs"] == ["trainer.devices=2"]
    assert found.lacks(small, plain)
    assert not Measurements([tmp_path], ["trainer.accelerator=cpu", "trainer.devices=2"]).lacks(small, plain)


def test_runs_with_other_classes_are_not_of_the_row(small, leave_run, tmp_path):
    leave_run(
        small, small.rows[0], "other", summary={"num_classes": 100}, **composed_training(small, ["data=cifar100"])
    )
    found = Measurements([tmp_path])
    assert found.runs(small, small.rows[0]) == []
    assert found.measured(small, small.rows[0]) == {}
    assert found.other_classes(small, small.rows[0]) == []  # nobody wanted them
    assert Measurements([tmp_path], ["data=cifar100"]).other_classes(small, small.rows[0]) == [100]


def test_only_runs_of_the_wanted_training_count(write, leave_run, tmp_path):
    table = write(seeds=["0", "1"])
    plain = table.rows[0]
    mnist = composed_training(table, ["data=mnist"])
    leave_run(table, plain, "0", seed=0)
    leave_run(table, plain, "mnist/0", seed=0, **mnist)
    leave_run(table, plain, "mnist/1", seed=1, **mnist)
    assert Measurements([tmp_path]).lacks(table, plain)
    assert not Measurements([tmp_path], ["seed=0"]).lacks(table, plain)
    assert not Measurements([tmp_path], ["data=mnist"]).lacks(table, plain)
    assert Measurements([tmp_path], ["data=mnist", "seed=1,2"]).lacks(table, plain)
    assert Measurements([tmp_path], ["data=mnist", "trainer.max_epochs=3"]).lacks(table, plain)
    leave_run(table, plain, "1", seed=1)
    assert not Measurements([tmp_path]).lacks(table, plain)


def test_kept_runs_count_too_and_external_rows_lack_nothing(write, leave_run, tmp_path):
    table = write(stand_ins=["data"], rows=[{"row": "plain", "overrides": []}, {"row": "pruned", "external": "true"}])
    plain, pruned = table.rows
    leave_run(table, plain, "a")
    write_csv_file(tmp_path / "kept.csv", Measurements([tmp_path / "outputs"]).runs(table, plain))
    kept = Measurements([tmp_path / "kept.csv"])
    assert not kept.lacks(table, plain)
    assert not kept.lacks(table, pruned)
    assert Measurements([]).lacks(table, plain)


def test_the_wanted_way_is_reported(small, leave_run, tmp_path):
    plain = small.rows[0]
    words = ["data=mnist", "trainer.max_epochs=1"]
    leave_run(small, plain, "digits", top1=0.9)
    leave_run(small, plain, "mnist", top1=0.8, **composed_training(small, words))
    assert Measurements([tmp_path]).measured(small, plain)["differs"] == []
    found = Measurements([tmp_path], words).measured(small, plain)
    assert (found["top1"], found["differs"]) == (80.0, words)


def test_a_stand_in_is_always_marked(write, leave_run, tmp_path):
    table = write(stand_ins=["data"])
    leave_run(table, table.rows[0], "a")
    assert Measurements([tmp_path]).measured(table, table.rows[0])["differs"] == ["data=digits"]


def test_a_row_is_measured_by_its_own_training(write, leave_run, tmp_path):
    own = {"row": "own", "overrides": ["data=mnist", "model.in_channels=1"]}
    table = write(stand_ins=["data"], rows=[own, {"row": "other", "overrides": []}])
    channels = {"data": {**composed_training(table.of(table.rows[0]))["data"], "channels": 1}}  # as the network takes
    leave_run(table, table.rows[0], "own", **channels)
    leave_run(table, table.rows[1], "other")
    found = Measurements([tmp_path])
    assert [found.measured(table, row)["differs"] for row in table.rows] == [["data=mnist"], ["data=digits"]]
    assert [found.lacks(table, row) for row in table.rows] == [False, False]


def test_the_way_nearest_to_the_published_one_is_reported(small, leave_run, tmp_path):
    plain = small.rows[0]
    trainer = composed_training(small)["trainer"]
    for seed in range(3):
        leave_run(small, plain, f"short{seed}", seed=seed, top1=0.5, trainer=trainer | {"max_epochs": 1})
    leave_run(small, plain, "whole", top1=0.9)
    found = Measurements([tmp_path]).measured(small, plain)
    assert (found["top1"], found["n"], found["differs"]) == (90.0, 1, [])


def test_kept_runs_are_read_again_and_count_once(small, leave_run, tmp_path):
    plain = small.rows[0]
    leave_run(small, plain, "b", seed=1, top1=0.92)
    leave_run(small, plain, "a", seed=0, top1=0.9)
    runs = Measurements([tmp_path / "outputs"]).runs(small, plain)
    write_csv_file(tmp_path / "results" / "small.csv", runs)
    lines = list(csv.DictReader((tmp_path / "results" / "small.csv").read_text().splitlines()))
    assert [(line["seed"], line["top1"], line["commit"]) for line in lines] == [
        ("0", "90.0", "abc"),
        ("1", "92.0", "abc"),
    ]
    assert Measurements([tmp_path / "results"]).runs(small, plain) == sorted(runs, key=lambda run: run.seed)
    assert Measurements([tmp_path / "results", tmp_path / "outputs"]).measured(small, plain)["n"] == 2


def test_a_seed_that_was_run_again_counts_once_and_the_latest_does(small, leave_run, tmp_path):
    plain = small.rows[0]
    leave_run(small, plain, "first", seed=0, top1=0.5, summary={"started": "2026-11-20T11:30:00+02:00"})
    leave_run(small, plain, "again", seed=0, top1=0.9, summary={"started": "2026-11-20T10:00:00+00:00"})
    leave_run(small, plain, "other", seed=1, top1=0.92)
    leave_run(small, plain, "short", seed=0, top1=0.1, **composed_training(small, ["trainer.max_epochs=1"]))
    found = Measurements([tmp_path])
    measured = found.measured(small, plain)
    assert (measured["n"], measured["seeds"], measured["top1"]) == (2, [0, 1], 91.0)
    assert len(found.runs(small, plain)) == 3  # the short one is another way of training


def test_a_run_that_was_not_measured_is_named_and_left_out(small, leave_run, tmp_path, capsys):
    leave_run(small, small.rows[0], "good")
    words = [*small.overrides, "trainer.max_epochs=1", "trainer.limit_val_batches=0", "data.train_fraction=0.1"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("train", overrides=[*words, "trainer.accelerator=cpu"])
    unmeasured = RunDirectory(tmp_path / "outputs" / "unmeasured")
    train(OmegaConf.to_container(config, resolve=True) | {"choices": {}}, unmeasured, overrides=words)
    assert unmeasured.read_summary()["status"] == "done"
    capsys.readouterr()
    assert Measurements([tmp_path]).measured(small, small.rows[0])["n"] == 1
    error = capsys.readouterr().err
    assert error.endswith("summary.json: has no top1 and top5, as after a training with trainer.limit_val_batches=0\n")
    assert error.startswith(f"left out: {unmeasured.path}")


def test_a_damaged_run_is_named_and_left_out(small, leave_run, tmp_path, capsys):
    leave_run(small, small.rows[0], "good")
    (leave_run(small, small.rows[0], "bad", seed=1) / "config.yaml").write_text("model: [")
    assert Measurements([tmp_path]).measured(small, small.rows[0])["seeds"] == [0]
    assert capsys.readouterr().err.startswith("left out: ")


def test_other_csv_files_are_left_alone_unless_they_are_named(small, tmp_path):
    (tmp_path / "other.csv").write_text("table,row\npaper/small,plain\n")
    assert Measurements([tmp_path]).runs(small, small.rows[0]) == []
    with pytest.raises(UserError, match=r"other\.csv: no file of runs, .* the columns are not table, row, seed, top1"):
        Measurements([tmp_path / "other.csv"])
    (tmp_path / "weights.ckpt").write_bytes(bytes(range(1, 256)))
    with pytest.raises(UserError, match=r"weights\.ckpt: no file of runs"):
        Measurements([tmp_path / "weights.ckpt"])


def test_a_wrong_value_is_named_with_its_line(small, tmp_path):
    run = Run("paper/small", "plain", 0, 90.0, 99.0, 2, "", 1, 1, "cpu", "3", "2", "0", "", "2026-11-20T10:00:00")
    write_csv_file(tmp_path / "kept.csv", [run])
    file = tmp_path / "kept.csv"
    text = file.read_text()
    file.write_text(text.replace("90.0", "high"))
    with pytest.raises(UserError, match=r"kept\.csv, line 2: could not convert string to float: 'high'$"):
        Measurements([tmp_path])
    file.write_text(text.replace("2026-11-20T10:00:00", "now"))
    with pytest.raises(UserError, match=r"kept\.csv, line 2: Invalid isoformat string: 'now'$"):
        Measurements([tmp_path])
