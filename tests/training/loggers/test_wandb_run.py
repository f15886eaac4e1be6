"""A W&B server that refuses, hangs or fails, at the start or in between: real processes, which train all the same.

And what becomes of checkpoints and failures, without a server.
"""

import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from efficientconv.errors import UserError
from efficientconv.runs.directory import RunDirectory
from efficientconv.training.evaluate import evaluate
from efficientconv.training.loggers.wandb_run import WandbRun, wandb_logger
from tests.training.conftest import TINY, resolved
from tests.training.loggers.wandb_server import FAIL, HANG, SERVE, serving

pytestmark = pytest.mark.filterwarnings("ignore")  # what silence_lightning keeps from users

ROOT = Path(__file__).parents[3]
REFUSED = "http://127.0.0.1:9"  # the port of a service that no machine has
LONGEST = 240  # seconds: a run that waits for the server takes for ever


def start(path, url):
    patience = {"WANDB_INIT_TIMEOUT": "2", "WANDB_FINISH_TIMEOUT": "2"}
    variables = {"WANDB_BASE_URL": url, "WANDB_API_KEY": "0" * 40, "OMP_NUM_THREADS": "1", **patience}
    words = [*TINY, "trainer.log_every_n_steps=1", "logger=wandb", f"run={path}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"} | variables
    program = [sys.executable, str(ROOT / "train.py")]
    return subprocess.Popen([*program, *words], cwd=path.parent, env=environment, **pipes)


def assert_trained(path, status, stdout, stderr):
    assert status == 0, stderr
    assert "Traceback" not in stderr
    assert RunDirectory(path).read_summary()["status"] == "done"
    command, sync, folder = stdout.strip().splitlines()[-1].split()
    assert (command, sync) == ("wandb", "sync")
    (file,) = (path.parent / folder).glob("*.wandb")
    assert b"val/top1" in file.read_bytes()
    return folder


def iter_until(lines, beginning):
    for line in lines:
        yield line
        if line.startswith(beginning):
            return


@pytest.mark.slow
@pytest.mark.parametrize("mode", [HANG, FAIL, pytest.param(None, id="refuse")])
def test_a_run_whose_server_does_not_answer_goes_on_offline(tmp_path, mode):
    path = tmp_path / "run"
    with serving(mode) if mode else nullcontext() as server:
        process = start(path, server.url if server else REFUSED)
        ended = process.communicate(timeout=LONGEST)
    folder = assert_trained(path, process.returncode, *ended)
    assert folder.startswith("run/wandb/offline-run-")
    assert "; the run goes on offline\n" in ended[0]
    assert f"W&B: offline, in {folder}\n" in ended[0]
    assert RunDirectory(path).read_summary()["wandb_url"] is None


@pytest.mark.slow
@pytest.mark.parametrize("mode", [HANG, FAIL])
def test_a_run_whose_server_stops_to_answer_ends_all_the_same(tmp_path, mode):
    path = tmp_path / "run"
    with serving(SERVE) as server:
        process = start(path, server.url)
        begun = "".join(iter_until(process.stdout, "epoch 1/2"))
        server.mode = mode
        rest, stderr = process.communicate(timeout=LONGEST)
    folder = assert_trained(path, process.returncode, begun + rest, stderr)
    assert folder.startswith("run/wandb/run-")
    url = f"{server.url}/me/efficientconv/runs/{RunDirectory(path).read_summary()['wandb_id']}"
    assert f"W&B: {url}\n" in begun
    assert url in rest[rest.index("done") :]


def test_an_unknown_choice_of_checkpoints_is_refused(tmp_path):
    run = RunDirectory(tmp_path)
    run.write_config(resolved())
    with pytest.raises(UserError, match=r"logger\.wandb\.log_model=all: must be true, best or false"):
        wandb_logger(run, "project", None, None, offline=True, log_model="all")


class Experiment:
    """Stands in for W&B's run: keeps the artifacts that it is given."""

    id, project, offline, summary = "1d", "project", False, {}
    settings = SimpleNamespace(finish_timeout=10, sync_dir="wandb/run-1d")

    def __init__(self):
        self.artifacts, self.exit_code = {}, None

    def log_artifact(self, artifact, aliases):
        self.artifacts[artifact.name] = (artifact, aliases)

    def finish(self, exit_code):
        self.exit_code = exit_code


@pytest.mark.parametrize(("log_model", "names"), [(True, ["last", "best"]), ("best", ["best"])])
def test_the_artifact_of_a_finished_run_is_a_run_directory(trained, tmp_path, log_model, names):
    experiment = Experiment()
    WandbRun(experiment, trained, log_model).close(trained.read_summary())
    artifact, aliases = experiment.artifacts["model-1d"]
    assert (artifact.type, aliases, experiment.exit_code) == ("model", ["latest", *names], 0)
    assert artifact.metadata["top1"] == trained.read_summary()["best"]["top1"]
    for name, entry in artifact.manifest.entries.items():
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(entry.local_path, tmp_path / "copy" / name)
    cpu = {"accelerator": "cpu", "devices": 1, "precision": "auto"}
    figures = evaluate(RunDirectory(tmp_path / "copy"), cpu, weights=names[-1])
    assert figures["top1"] == pytest.approx(trained.read_summary()["best"]["top1"])
    assert (tmp_path / "copy/checkpoints/last.ckpt").exists() == ("last" in names)


@pytest.mark.parametrize(("log_model", "status", "code"), [(False, "done", 0), (True, "failed", 1)])
def test_no_artifact_of_a_run_that_is_not_done_or_not_asked_for(trained, log_model, status, code):
    experiment = Experiment()
    WandbRun(experiment, trained, log_model).close(trained.read_summary() | {"status": status})
    assert (experiment.artifacts, experiment.exit_code) == ({}, code)


def test_what_fails_in_wandb_is_told_once_and_stops_nothing(trained, caplog):
    def fail(*args, **settings):
        raise ConnectionError("gone\naway")

    experiment = Experiment()
    experiment.log = experiment.finish = fail
    logger = WandbRun(experiment, trained, False)
    for step in (1, 2):
        logger.log_metrics({"loss": 1.0}, step)
    logger.close(trained.read_summary())
    assert caplog.messages == ["W&B: gone; training goes on"]
    assert logger.sync_line() == "wandb sync wandb/run-1d"
