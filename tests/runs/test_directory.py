import multiprocessing
import os

import pytest

from efficientconv.errors import UserError
from efficientconv.runs.directory import RunDirectory

CONFIG = {"model": {"depth": 20}, "conv": {"layer": None}, "data": {"seed": 0}, "recipe": {"milestones": [0.5, 0.75]}}
CONFIG |= {"trainer": {}, "callbacks": {}, "logger": {}}


def test_config_comes_back_as_it_was(tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.write_config(CONFIG)
    assert run.read_config() == CONFIG


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is not a run directory: it has no config.yaml"),
        ("model: [", "config.yaml cannot be read"),
        ("- a\n- b\n", "is not the configuration of a run"),
        ("model: {}\n", "model, conv, data, recipe, trainer, callbacks, logger are needed"),
    ],
)
def test_what_is_no_run_directory_is_refused(tmp_path, text, message):
    if text is not None:
        (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        RunDirectory(tmp_path).read_config()


def test_summary_merges_and_leaves_no_temporary_file(tmp_path):
    run = RunDirectory(tmp_path)
    assert run.read_summary() == {}
    run.update_summary(status="running", seed=0)
    run.update_summary(status="done")
    assert run.read_summary() == {"status": "done", "seed": 0}
    assert [file.name for file in tmp_path.iterdir()] == ["summary.json"]


def test_a_damaged_summary_is_named(tmp_path):
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(UserError, match=r"summary\.json is damaged: Expecting"):
        RunDirectory(tmp_path).read_summary()


def test_a_write_that_fails_keeps_the_old_file(tmp_path, monkeypatch):
    run = RunDirectory(tmp_path)
    run.update_summary(status="running")

    def full(self, target):
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="No space left"):
        run.update_summary(status="done")
    assert run.read_summary() == {"status": "running"}
    assert [file.name for file in tmp_path.iterdir()] == ["summary.json"]


def test_metrics_are_cut_back_to_the_checkpoint(tmp_path):
    run = RunDirectory(tmp_path)
    run.cut_metrics(0)
    for epoch in (1, 2, 3):
        run.append_metrics({"epoch": epoch, "val/top1": 0.5})
    run.cut_metrics(2)
    assert [row["epoch"] for row in run.read_metrics()] == ["1", "2"]
    run.append_metrics({"epoch": 3, "val/top1": 0.6})
    assert run.read_metrics()[-1] == {"epoch": "3", "val/top1": "0.6"}
    run.cut_metrics(0)
    assert run.read_metrics() == []
    run.append_metrics({"epoch": 1, "loss": 2.0})
    assert run.read_metrics() == [{"epoch": "1", "loss": "2.0"}]


def _hold(path, ready, release):
    with RunDirectory(path).lock():
        ready.set()
        release.wait(30)


def test_a_second_process_is_refused_and_a_killed_one_lets_go(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, ready, release))
    holder.start()
    assert ready.wait(60)
    with pytest.raises(UserError, match="another process is training"), RunDirectory(tmp_path).lock():
        pass
    os.kill(holder.pid, 9)
    holder.join()
    with RunDirectory(tmp_path).lock():
        pass
