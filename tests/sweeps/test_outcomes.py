import json
import os
import subprocess
import sys
import time

import pytest

from efficientconv.sweeps.outcomes import Outcomes

LABELS = {"a": "seed=0", "b": "seed=1", "c": "seed=2", "d": "seed=3"}


@pytest.fixture
def outcomes(tmp_path):
    return Outcomes(tmp_path / "sweep" / ".ended-1")


def test_progress_counts_what_was_done_before_too(outcomes):
    outcomes.open(LABELS, left=3)
    assert outcomes.progress() == "1 of 4 jobs"
    outcomes.begin("b")
    outcomes.end("b")
    assert outcomes.progress().startswith("2 of 4 jobs, about ")
    outcomes.end("c", "the loss is not a finite number")
    outcomes.end("d")
    assert outcomes.progress() == "4 of 4 jobs, 1 failed"
    assert outcomes.errors() == {"c": "the loss is not a finite number"}


def test_the_time_left_is_for_as_many_jobs_as_are_left(outcomes):
    outcomes.open(LABELS, left=4)
    begun = outcomes.folder / "begun"
    begun.write_text(json.dumps(json.loads(begun.read_text()) | {"at": time.time() - 600}))
    outcomes.end("a")
    assert outcomes.progress() == "1 of 4 jobs, about 30 min left"


def test_a_job_may_run_in_the_sweeps_own_process(outcomes):
    assert not outcomes.is_here
    outcomes.open(LABELS, left=4)
    assert outcomes.is_here
    outcomes.begin("a")
    assert outcomes.processes() == []  # none to stop
    begun = outcomes.folder / "begun"
    begun.write_text(json.dumps(json.loads(begun.read_text()) | {"pid": os.getppid()}))
    assert not outcomes.is_here


def test_a_job_that_goes_on_has_not_ended_but_has_begun(outcomes):
    outcomes.open(LABELS, left=4)
    for _ in range(2):
        outcomes.begin("a")
        outcomes.end("a", "killed")
        outcomes.forget("a")
    assert outcomes.errors() == {}
    assert outcomes.times_begun("a") == 2


def test_batches_add_up(outcomes):
    outcomes.open({"a": "lr=1"}, left=1)
    outcomes.open({"b": "lr=2"}, left=0)
    assert outcomes.labels() == {"a": "lr=1", "b": "lr=2"}
    assert outcomes.progress() == "1 of 2 jobs"


def test_a_job_whose_sweep_was_killed_and_cleared_away_ends_all_the_same(outcomes):
    outcomes.begin("a")
    outcomes.end("a")
    assert outcomes.label("a") == "a"
    assert not outcomes.folder.exists()


def test_the_folder_of_a_killed_sweep_is_removed_and_that_of_a_living_one_stays(outcomes):
    dead, living = (Outcomes(outcomes.folder.with_name(f".ended-{name}")) for name in ("dead", "living"))
    for each in (dead, living):
        each.open(LABELS, left=4)
    gone = subprocess.run([sys.executable, "-S", "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    begun = dead.folder / "begun"
    begun.write_text(json.dumps(json.loads(begun.read_text()) | {"pid": int(gone.stdout)}))
    outcomes.open(LABELS, left=4)
    assert (dead.folder.exists(), living.folder.exists()) == (False, True)


def test_stopping_reaches_the_processes_of_the_jobs(outcomes):
    outcomes.open(LABELS, left=1)
    code = "import sys, time; print('up', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        outcomes.begin("a")
        running = outcomes.folder / "a.running"
        running.write_text(json.dumps(json.loads(running.read_text()) | {"pid": process.pid}))
        assert (outcomes.processes(), outcomes.stopped) == ([process.pid], False)
        outcomes.stop()
        assert process.wait(60) == -15
    assert outcomes.stopped
