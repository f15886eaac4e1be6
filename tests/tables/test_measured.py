import csv

import pytest

from efficientconv.errors import UserError
from efficientconv.tables.compose import composed_training
from efficientconv.tables.measured import Measurements, Run, write_csv_file


def test_runs_of_a_row_are_found_by_their_network(small, leave_run, tmp_path):
    plain, doconv = small.rows
    leave_run(small, plain, "a/0", seed=0, top1=0.90)
    leave_run(small, plain, "a/1", seed=1, top1=0.92)
    leave_run(small, doconv, "b", top1=0.95)
    leave_run(small, plain, "unfinished", seed=2, status="running")
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
    training = composed_training(small)
    choices, trainer = training["choices"], training["trainer"]
    other_data = {"choices": choices | {"data": "mnist"}}
    leave_run(small, plain, "data", **other_data)
    leave_run(small, plain, "machine", seed=1, data={**training["data"], "root": "/elsewhere", "seed": 7})
    batches = {group: {**training[group], "batch_size": 8} for group in ("data", "recipe")}
    leave_run(small, plain, "batch", seed=2, **batches)
    leave_run(small, plain, "short", seed=3, trainer={**trainer, "max_epochs": 1, "limit_train_batches": 0.5})
    runs = Measurements([tmp_path]).runs(small, plain)
    differs = {run.seed: run.differs for run in runs}
    assert differs == {0: "data=mnist", 1: "", 2: "recipe.batch_size=8", 3: "max_epochs=1; limit_train_batches=0.5"}


def test_a_stand_in_is_always_marked(write, leave_run, tmp_path):
    table = write(stand_ins=["data"])
    leave_run(table, table.rows[0], "a")
    assert Measurements([tmp_path]).measured(table, table.rows[0])["differs"] == ["data=digits"]


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


def test_a_damaged_run_is_named_and_left_out(small, leave_run, tmp_path, capsys):
    leave_run(small, small.rows[0], "good")
    (leave_run(small, small.rows[0], "bad", seed=1) / "config.yaml").write_text("model: [")
    assert Measurements([tmp_path]).measured(small, small.rows[0])["seeds"] == [0]
    assert capsys.readouterr().err.startswith("left out: ")


def test_other_csv_files_are_left_alone(small, tmp_path):
    (tmp_path / "other.csv").write_text("table,row\npaper/small,plain\n")
    assert Measurements([tmp_path]).runs(small, small.rows[0]) == []


def test_a_wrong_value_is_named_with_its_line(small, tmp_path):
    run = Run("paper/small", "plain", 0, 90.0, 99.0, 2, "", 1, 1, "cpu", "3", "2", "0", "", "now")
    write_csv_file(tmp_path / "kept.csv", [run])
    file = tmp_path / "kept.csv"
    file.write_text(file.read_text().replace("90.0", "high"))
    with pytest.raises(UserError, match=r"kept\.csv, line 2: could not convert string to float: 'high'$"):
        Measurements([tmp_path])
