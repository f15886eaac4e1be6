import json
import re

import pytest

from efficientconv.errors import UserError
from efficientconv.tables.count.configurations import composed_training
from efficientconv.tables.load.files import load_table
from efficientconv.tables.measure.runs import Measurements
from efficientconv.tables.measure.sweep import sweep_overrides
from efficientconv.tables.tool import missing_sweeps, places, run, show

CONFIG = {"tables": ["doconv/sample"], "row": "*", "format": "json", "results": [], "save": None, "run": False}
LIST = CONFIG | {"tables": None, "results": None}


def test_json_is_all_that_is_printed(capsys):
    assert run(CONFIG, []) is None
    rows = json.loads(capsys.readouterr().out)
    assert [row["row"] for row in rows] == ["Baseline", "DO-Conv", "Baseline on digits", "DO-Conv on digits"]
    assert [row["computed"]["params"] for row in rows] == [3930, 3930, 4218, 4218]


def test_rows_and_several_tables(capsys):
    run(CONFIG | {"tables": ["doconv/sample", "doconv/sample_gluoncv"], "row": "do-conv"}, [])
    assert [row["row"] for row in json.loads(capsys.readouterr().out)] == ["DO-Conv", "DO-Conv"]


def test_list_of_tables(capsys):
    run(LIST | {"format": "text"}, [])
    assert "slimconv/imagenet_resnet101" in capsys.readouterr().out
    run(LIST, [])
    assert "slimconv/imagenet_resnet101" in [table["table"] for table in json.loads(capsys.readouterr().out)]


def test_text_and_page(capsys):
    run(CONFIG | {"format": "text"}, [])
    assert capsys.readouterr().out.startswith("doconv/sample: The PyTorch sample")
    run(CONFIG | {"format": "markdown"}, [])
    assert capsys.readouterr().out.startswith("### doconv/sample: The PyTorch sample")


KEYS = "table, row, format, results, save, run"
MISTAKES = [
    ({"row": "Basline"}, [], "row=Basline: there is no such row; nearest first: Baseline, Baseline on digits, DO-Conv"),
    ({"format": "jsn"}, [], "format=jsn: there is no such format; nearest first: json"),
    ({"format": "jsn", "run": True}, [], "format=jsn: there is no such format; nearest first: json"),
    ({"tables": ["doconv/sampel"]}, [], "table=doconv/sampel: there is no such table; nearest first: doconv/sample"),
    ({"results": ["nowhere"]}, [], "results=nowhere: there is no such directory or file"),
    ({"results": ["nowhere"], "run": True}, [], "results=nowhere: there is no such directory or file"),
    ({"save": "kept.csv"}, [], "save=kept.csv: these rows have no run; the file is left as it is"),
    ({"run": "no"}, [], "run=no: must be true or false"),
    ({"run": "nope"}, ["recipe=x"], "run=nope: must be true or false"),
    ({"run": 1}, [], "run=1: must be true or false"),
    ({}, ["recipe=x"], f"recipe=x: is for training, with run=true; the keys of this tool are {KEYS}"),
    ({}, ["tabel=x"], "tabel: there is no such key; nearest first: table, "),
    ({"run": True}, ["tables=x"], "tables: there is no such key; nearest first: table, "),
    ({"run": True}, ["trainr.max_epochs=1"], "trainr.max_epochs: there is no such key; nearest: trainer.max_epochs"),
    ({"run": True}, ["model.depth=8"], "model.depth=8: a row has its own network; python train.py trains others"),
    ({"run": True}, ["conv=doconv"], "conv=doconv: a row has its own network; python train.py trains others"),
]


@pytest.mark.parametrize(("changes", "overrides", "message"), MISTAKES)
def test_mistakes(changes, overrides, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        run(CONFIG | {"format": "csv"} | changes, overrides)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["row", "results", "save", "run"])
def test_keys_that_need_a_table_are_refused_without_one(key):
    with pytest.raises(UserError, match=rf"^{key}= needs a table: table=<name>, a paper, a glob pattern, or all; "):
        run(LIST | {key: True if key == "run" else "x"}, [])


def test_overrides_of_training_are_accepted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    overrides = ["data=mnist", "recipe=cosine_cifar", "trainer.max_epochs=1", "seed=0,1", "sweep=x", "outputs=y"]
    overrides += ["callbacks=ema", "logger=tensorboard", "compile=true", "channels_last=true", "allow=[x]"]
    sweeps = run(CONFIG | {"row": "* on digits", "run": True}, overrides)
    assert [sweep[-len(overrides) :] for sweep in sweeps] == [overrides, overrides]


def test_where_measurements_are_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kept.csv").touch()
    assert places({"results": None, "run": False}, []) == ["results", "outputs"]
    assert places({"results": ["kept.csv"], "run": False}, []) == ["kept.csv"]
    assert places({"results": ["kept.csv"], "run": True}, ["outputs=mine"]) == ["kept.csv", "mine"]
    assert places({"results": ["outputs"], "run": True}, []) == ["outputs"]
    with pytest.raises(UserError, match=r"^results=outputs: there is no such directory or file$"):
        places({"results": ["outputs"], "run": False}, [])


@pytest.fixture
def small_alone(small, monkeypatch):
    from efficientconv.tables import tool

    monkeypatch.setattr(tool, "find_tables", lambda patterns: patterns)
    monkeypatch.setattr(tool, "load_table", lambda name: small)
    return small


def test_runs_are_saved(small_alone, leave_run, tmp_path):
    leave_run(small_alone, small_alone.rows[0], "a", top1=0.9)
    file = tmp_path / "kept" / "small.csv"
    run(CONFIG | {"results": [str(tmp_path)], "save": str(file)}, [])
    (line,) = file.read_text().splitlines()[1:]
    assert line.startswith("paper/small,plain,0,90.0,99.0,2,,4218,281088,a cpu,")


def test_what_was_just_trained_is_shown_wherever_it_was_written(small_alone, leave_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["data=mnist", "outputs=outputs/mine"]
    leave_run(small_alone, small_alone.rows[0], "digits")
    leave_run(small_alone, small_alone.rows[0], "mine/mnist", top1=0.8, **composed_training(small_alone, words))
    show(CONFIG | {"row": "plain", "run": True}, words)
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["measured"]["top1"], row["measured"]["differs"]) == (80.0, ["data=mnist"])


def test_only_what_is_missing_is_trained(write, leave_run, tmp_path):
    rows = [{"row": "a", "overrides": []}, {"row": "b", "overrides": ["conv=doconv"]}, {"row": "c", "external": "true"}]
    table = write(seeds=["0", "1"], rows=rows)
    leave_run(table, table.rows[0], "0", seed=0)
    leave_run(table, table.rows[0], "1", seed=1)
    leave_run(table, table.rows[1], "2", seed=0)
    (sweep,) = missing_sweeps([(table, table.rows)], [str(tmp_path)], [])
    assert sweep == sweep_overrides(table, table.rows[1], [])


def test_runs_on_other_data_stop_no_training(leave_run, tmp_path):
    table = load_table("bsconv/cifar100_resnet")
    row = table.row("cifar_resnet56_bsconvu")
    words = ["data=digits", "trainer.max_epochs=2"]
    leave_run(table, row, "digits", summary={"num_classes": 10}, **composed_training(table, words))
    assert missing_sweeps([(table, [row])], [str(tmp_path)], []) == [sweep_overrides(table, row, [])]
    assert Measurements([tmp_path]).measured(table, row) == {}
    sample = load_table("doconv/sample")
    digits = sample.row("Baseline on digits")
    for seed in sample.seeds:
        leave_run(sample, digits, f"sample/{seed}", seed=seed)
    assert missing_sweeps([(sample, [digits])], [str(tmp_path)], []) == []
    (sweep,) = missing_sweeps([(sample, [digits])], [str(tmp_path)], ["data=mnist"])
    assert "data=mnist" in sweep


@pytest.fixture
def on_mnist(write):
    """Write two rows on MNIST, in a folder, and one on digits."""

    def rows_on_mnist(root, **changes):
        words = ["data=mnist", f"data.root={root}", "data.download=false"]
        plain = {"row": "plain", "overrides": words, **changes}
        doconv = {"row": "doconv", "overrides": ["conv=doconv", *words], **changes}
        table = write(rows=[plain, doconv, {"row": "digits", "overrides": []}])
        return [(table, table.rows)]

    return rows_on_mnist


def test_rows_for_where_their_data_is_are_left_out_elsewhere_which_is_said(on_mnist, tmp_path, capsys):
    chosen = on_mnist(tmp_path / "nowhere", where_present="true")
    table, rows = chosen[0]
    assert missing_sweeps(chosen, [], []) == [sweep_overrides(table, rows[2], [])]
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert said.err.startswith("not trained: paper/small 'plain', paper/small 'doconv': data=mnist: looked in ")
    assert "data.download=false forbids fetching it. To fetch it by hand: mkdir -p" in said.err


def test_rows_for_where_their_data_is_are_trained_there(on_mnist, tiny_mnist, capsys):
    chosen = on_mnist(tiny_mnist, where_present="true")
    assert len(missing_sweeps(chosen, [], [])) == 3
    assert capsys.readouterr().err == ""


def test_data_that_does_not_fit_is_refused_before_training():
    table = load_table("bsconv/cifar100_resnet")
    with pytest.raises(UserError, match=r"^data=digits: has 10 classes; must have 100, as the networks of bsconv/"):
        missing_sweeps([(table, [table.row("cifar_resnet20")])], [], ["data=digits", "trainer.max_epochs=1"])


def test_runs_on_data_that_turned_out_not_to_fit_are_said(small_alone, leave_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["data=mnist", f"data.root={tmp_path}"]
    training = composed_training(small_alone, words)
    leave_run(small_alone, small_alone.rows[0], "mnist", summary={"num_classes": 47}, **training)
    show(CONFIG | {"results": [str(tmp_path)], "run": True}, words)
    said = capsys.readouterr()
    assert [row["measured"] for row in json.loads(said.out)] == [{}, {}]
    assert said.err == "not shown: paper/small 'plain': was trained on 47 classes; the table's networks have 10\n"


def test_other_rows_are_left_to_training(on_mnist, tmp_path):
    assert len(missing_sweeps(on_mnist(tmp_path / "nowhere"), [], [])) == 3
