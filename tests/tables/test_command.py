"""The two tools as a user meets them: one real process, and others within that of the tests."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from efficientconv.tables.arguments import OWN_KEYS
from efficientconv.tables.load.files import load_table
from efficientconv.tables.measure.runs import Measurements

pytestmark = pytest.mark.filterwarnings("ignore")  # what silence_lightning keeps from users
ROOT = Path(__file__).parents[2]


def test_tables_only_reads(tmp_path):
    variables = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "efficientconv", "tables", "table=doconv/sample", "format=json"]
    shown = subprocess.run(line, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=240)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert [row["table"] for row in json.loads(shown.stdout)] == ["sample"] * 4
    assert list(tmp_path.iterdir()) == []


def test_without_a_table_all_are_listed(command, tmp_path):
    listed = command("tables")
    assert (listed.status, listed.stderr) == (0, "")
    assert "bsconv/cifar100_resnet" in listed.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_is_one_line(command):
    wrong = command("tables", "doconv/sampel")
    assert (wrong.status, wrong.stdout) == (1, "")
    assert wrong.stderr.startswith("table=doconv/sampel: there is no such table; nearest first: doconv/sample")
    assert wrong.stderr.count("\n") == 1


def test_several_jobs_are_refused_and_leave_nothing_behind(command, tmp_path):
    wrong = command("tables", "doconv", "-m", "row=a,b")
    assert (wrong.status, wrong.stdout) == (1, "")
    assert wrong.stderr.startswith("-m: efficientconv tables is one job; sweeps are for train")
    assert wrong.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_names_need_no_quotes_of_hydra(command):
    name = "SPConv-ResNet_20-α1/2"
    shown = command("tables", "spconv,slimconv/imagenet", f"row={name}", "format=json")
    assert (shown.status, shown.stderr) == (0, "")
    assert [row["row"] for row in json.loads(shown.stdout)] == [name]


def test_help_tells_every_key_and_flags_keep_their_values(command):
    told = command("tables", "--help")
    assert (told.status, told.stderr) == (0, "")
    keys = re.findall(r"^(\w+)=", told.stdout, re.MULTILINE)
    assert sorted(keys) == sorted(OWN_KEYS)
    composed = command("tables", "--cfg", "job", "row=a")
    assert (composed.status, composed.stderr) == (0, "")
    assert "row: a\n" in composed.stdout


def test_no_is_not_true(command, tmp_path):
    refused = command("tables", "doconv/sample", "run=no")
    assert refused == (1, "", "run=no: must be true or false\n")
    assert list(tmp_path.iterdir()) == []


def test_missing_rows_are_trained_once(command, tmp_path):
    short = ["data.train_fraction=0.1", "trainer.max_epochs=1", "seed=0,1"]
    (tmp_path / "elsewhere").mkdir()
    words = [
        "table=doconv/sample",
        "row=DO-Conv on digits",
        "run=true",
        "format=json",
        "results=elsewhere",
        "save=kept.csv",
    ]
    first = command("tables", *words, *short)
    assert first.status == 0, first.stderr
    (row,) = json.loads(first.stdout)
    assert row["measured"]["seeds"] == [0, 1]
    assert row["measured"]["differs"] == ["data=digits", "data.train_fraction=0.1", "trainer.max_epochs=1"]
    sweep = tmp_path / "outputs" / "sweeps" / "table-doconv-sample"
    summaries = sorted(sweep.glob("*/summary.json"))
    assert len(summaries) == 2
    table = load_table("doconv/sample")
    assert Measurements([tmp_path / "kept.csv"]).measured(table, table.row("DO-Conv on digits")) == row["measured"]
    before = [file.stat().st_mtime_ns for file in summaries]
    again = command("tables", *words, *short)
    assert (json.loads(again.stdout), again.stderr) == ([row], "")
    assert [file.stat().st_mtime_ns for file in summaries] == before


@pytest.mark.slow
def test_rows_on_mnist_are_left_out_where_it_is_not(command, monkeypatch):
    monkeypatch.setenv("EFFICIENTCONV_DATA", "nowhere")
    for proxy in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")  # offline
    words = ["table=doconv/sample", "row=Baseline*", "run=true", "format=json", "trainer.max_epochs=1", "seed=0"]
    done = command("tables", *words)
    assert done.status == 0, done.stderr
    assert done.stderr.count("not trained: doconv/sample 'Baseline': data=mnist: looked in ") == 1
    published, digits = json.loads(done.stdout)
    assert (published["measured"], digits["measured"]["n"]) == ({}, 1)


def test_what_fails_in_training_fails_here(command):
    failed = command("tables", "table=doconv/sample", "row=*digits", "run=true", "data.train_fraction=2")
    assert failed.status == 1
    assert "train_fraction=2" in failed.stderr
    assert failed.stdout.startswith("doconv/sample: The PyTorch sample")


def test_profile(command, tmp_path):
    shown = command("profile", "model=lenet_doconv_sample", "conv=doconv", "depth=1", "json=profile.json")
    assert (shown.status, shown.stderr) == (0, "")
    assert "\n3×32×32: 7,053 params, 281,088 MACs\n" in shown.stdout
    assert [file.name for file in tmp_path.iterdir()] == ["profile.json"]
