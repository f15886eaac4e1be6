"""Which sweeps are refused, and how others end: whichever launcher runs their jobs, whatever becomes of them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from efficientconv.cli.sweep import refuse_equal_jobs
from efficientconv.errors import UserError
from efficientconv.runs.directory import RunDirectory
from efficientconv.sweeps import engines
from tests.training.conftest import TINY

pytestmark = pytest.mark.filterwarnings("ignore")  # what silence_lightning keeps from users

JOBS = ["-m", *TINY, "trainer.max_epochs=1", "model.depth=8,9", "sweep=two", "outputs=."]
ROOT = Path(__file__).parents[2]
MESSAGE = "depth=9: must be 6n+2; the nearest are 8 and 14"


def names(tmp_path):
    return sorted(path.name for path in (tmp_path / "sweeps/two").iterdir() if path.is_dir())


def test_a_table_and_a_line_name_what_has_failed(command, tmp_path):
    ended = command("train", *JOBS)
    whole, failed = names(tmp_path)
    assert ended.status == 1
    assert ended.stderr.splitlines() == [f"{failed}: {MESSAGE}", f"1 of 2 jobs failed: {failed}"]
    table = ended.stdout[ended.stdout.index("best top-1 ") :]
    assert [word in ended.stdout for word in ("done", "failed")] == [True, True]
    assert "%" in table
    again = command("train", *JOBS)
    assert (again.status, again.stderr) == (ended.status, ended.stderr)
    assert names(tmp_path) == [whole, failed]


@pytest.mark.parametrize("key", ["compile", "trainer.precision", "data.workers", "logger"])
def test_a_sweep_whose_jobs_are_equal_is_refused(key):
    with pytest.raises(UserError, match=f"{key}=1,2: {key} changes no result, so that all of these would be the same"):
        refuse_equal_jobs(["-m", "conv=standard,bsconv_u", f"{key}=1,2", "data.root=here,there", "not grammar="])


def test_hydras_own_launchers_are_refused():
    with pytest.raises(UserError, match=r"^hydra/launcher=joblib: say launcher=joblib, which also skips the job"):
        refuse_equal_jobs(["-m", "hydra/launcher=joblib", "seed=1,2"])


def test_a_launcher_is_for_sweeps(command, tmp_path):
    ended = command("train", "data=digits", "launcher=joblib")
    assert ended == (1, "", "launcher=joblib: one run needs none; -m makes a sweep of this line\n")
    assert list(tmp_path.iterdir()) == []


def test_a_launcher_that_is_not_installed_gets_one_line(command, monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    ended = command("train", *JOBS, "launcher=ray")
    assert (ended.status, ended.stderr.count("\n")) == (1, 1)
    assert ended.stderr.startswith("launcher=ray: its package is not installed; pip install")


@pytest.mark.slow
def test_jobs_beside_one_another(command, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    ended = command("train", *JOBS, "launcher=joblib", "launcher.n_jobs=2")
    whole, failed = names(tmp_path)
    assert ended.status == 1
    assert ended.stderr.splitlines()[-1] == f"1 of 2 jobs failed: {failed}"
    log = (tmp_path / "sweeps/two" / whole / "train.log").read_text()
    assert "StagedNet: BSConvU" in log  # the tables, which are of several lines, are there and not on the screen
    assert "StagedNet" not in ended.stdout
    assert "done" in ended.stdout


def lines_of(folder, *words):
    """Start a sweep in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *JOBS, *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_two_that_start_one_sweep_share_its_jobs_and_end_when_all_are_done(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = ["model.depth=8", "seed=range(3)", "trainer.max_epochs=2"]
    engines = ([], ["launcher=joblib", "launcher.n_jobs=2"])
    sweeps = [lines_of(tmp_path, *words, *engine) for engine in engines]
    told = [sweep.communicate()[0] for sweep in sweeps]
    assert [sweep.returncode for sweep in sweeps] == [0, 0], told
    runs = [RunDirectory(tmp_path / "sweeps/two" / name) for name in names(tmp_path)]
    assert [run.read_summary()["status"] for run in runs] == ["done"] * 3
    logs = [run.log_file.read_text() for run in runs]
    assert [log.count("epoch 2/2: ") for log in logs] == [1] * 3  # nothing twice


@pytest.mark.slow
def test_a_preempted_job_saves_and_is_put_back_into_the_queue(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    sweep = lines_of(tmp_path, "model.depth=8", "trainer.max_epochs=30", "launcher=submitit")
    job = first_that_trains(tmp_path / "sweeps/two")
    os.kill(json.loads((job / ".worker.json").read_text())["pid"], signal.SIGUSR2)
    told = sweep.communicate()[0]
    assert sweep.returncode == 0, told
    log = (job / "train.log").read_text()
    assert log.index("interrupted (SIGUSR2), saved") < log.index("Requeued job") < log.index("going on from")
    assert [row["epoch"] for row in RunDirectory(job).read_metrics()] == [str(epoch) for epoch in range(1, 31)]


def first_that_trains(sweep):
    """Wait for the first epoch of any job; return its directory."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for metrics in sweep.glob("*/metrics.csv"):
            return metrics.parent
        time.sleep(0.05)
    raise TimeoutError
