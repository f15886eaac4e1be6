import json
import multiprocessing
import os
import socket

import pytest

from efficientconv.errors import UserError
from efficientconv.runs.directory import RunDirectory, RunIsBusyError

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


@pytest.mark.parametrize("text", ["{", "3", "\x00\x00"])
def test_a_damaged_summary_is_named_with_the_way_out(tmp_path, text):
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(
        UserError, match=rf"summary\.json is damaged \(.+\)\. Remove it: .* resume=true run={tmp_path} then"
    ):
        RunDirectory(tmp_path).read_summary()


def test_a_damaged_summary_is_set_aside_and_a_whole_one_is_not(tmp_path):
    run = RunDirectory(tmp_path)
    run.set_damaged_summary_aside()
    run.update_summary(status="done")
    run.set_damaged_summary_aside()
    assert run.read_summary() == {"status": "done"}
    (tmp_path / "summary.json").write_text("{")
    run.set_damaged_summary_aside()
    assert run.read_summary() == {}
    assert (tmp_path / "summary.damaged").read_text() == "{"


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


@pytest.mark.parametrize(("path", "sweep"), [("sweeps/first/seed-0", "first"), ("runs/digits/resnet20", None)])
def test_a_job_knows_its_sweep(tmp_path, path, sweep):
    assert RunDirectory(tmp_path / path).sweep == sweep


def _hold(path, ready, release):
    with RunDirectory(path).lock():
        ready.set()
        release.wait(30)


def test_a_second_process_hears_who_works_there_and_a_killed_one_lets_go(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, ready, release))
    holder.start()
    assert ready.wait(60)
    message = rf"process {holder.pid} on {socket.gethostname()} \(since 20\S+\) is training in this run directory"
    with pytest.raises(RunIsBusyError, match=message), RunDirectory(tmp_path).lock():
        pass
    os.kill(holder.pid, 9)
    holder.join()
    leftover = tmp_path / ".summary.json.1-0.part"
    leftover.write_text("{")
    with RunDirectory(tmp_path).lock():
        assert json.loads((tmp_path / ".worker.json").read_text())["pid"] == os.getpid()
        assert not leftover.exists()
    assert not (tmp_path / ".worker.json").exists()


def test_who_holds_the_lock_may_take_it_again(tmp_path):
    run = RunDirectory(tmp_path)
    with run.lock():
        with run.lock():
            pass
        with pytest.raises(RunIsBusyError, match=f"process {os.getpid()} on"), RunDirectory(tmp_path).lock():
            pass


def test_a_directory_that_cannot_be_made_is_refused_with_a_way_out(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"cannot be written \(.+\); copy it .* run= or outputs="),
        RunDirectory(tmp_path / "file" / "run").lock(),
    ):
        pass


@pytest.fixture
def finished(tmp_path):
    """A run that is done, and is being trained further, as its files tell."""
    run = RunDirectory(tmp_path)
    run.write_config(CONFIG)
    run.update_summary(status="done", epochs=2)
    run.checkpoint("last").parent.mkdir()
    run.checkpoint("last").write_text("after 2 epochs")
    return run


def go_on(run, *, save):
    """Begin to train further, perhaps save a checkpoint, and fail."""
    with run.stay_finished():
        run.write_config(CONFIG | {"trainer": {"max_epochs": 9}})
        run.update_summary(status="failed")
        if save:
            run.checkpoint("last").unlink()
            run.checkpoint("last").write_text("after 2 epochs and 5 steps")
        raise ArithmeticError


def test_what_is_done_stays_done_where_going_on_fails_at_once(finished):
    with pytest.raises(ArithmeticError):
        go_on(finished, save=False)
    assert finished.read_config() == CONFIG
    assert finished.read_summary() == {"status": "done", "epochs": 2}


def test_a_further_checkpoint_is_not_of_the_finished_run(finished):
    with pytest.raises(ArithmeticError):
        go_on(finished, save=True)
    assert finished.read_config()["trainer"] == {"max_epochs": 9}
    assert finished.read_summary()["status"] == "failed"
