"""Runs of several ranks: how they are watched, with children that need no torch, and whole runs on the CPU."""

import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from efficientconv.config_path import CONFIGS
from efficientconv.errors import UserError
from efficientconv.runs.directory import RunDirectory
from efficientconv.training import ddp
from efficientconv.training.ddp import as_started, device_count, started, wait
from efficientconv.training.stopping import StopRequest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path)


def statuses(run, code, count=2, stop=None):
    with started(
        [sys.executable, "-S", "-c", f"import os, time; rank = os.environ['LOCAL_RANK']; {code}"], count, run
    ) as ranks:
        return wait(ranks, stop or StopRequest())


def test_every_rank_knows_which_it_is_and_where_to_meet(run):
    code = "print(rank, *(os.environ[n] for n in ('WORLD_SIZE', 'MASTER_ADDR')), file=__import__('sys').stderr)"
    assert statuses(run, code, count=3) == [0, 0, 0]
    assert sorted(run.log_file.read_text().split("\n")) == ["", "1 3 127.0.0.1", "2 3 127.0.0.1"]


def test_the_first_rank_prints_where_this_process_does(run, tmp_path):
    with (tmp_path / "out").open("w+") as out, redirect_stdout(out):
        assert statuses(run, "print('I am', rank)") == [0, 0]
    assert (tmp_path / "out").read_text() == "I am 0\n"


def test_a_rank_that_hangs_after_another_has_failed_is_not_waited_for(run, monkeypatch):
    monkeypatch.setattr(ddp, "GRACE_SECONDS", 0.2)
    assert statuses(run, "time.sleep(600) if rank == '0' else os._exit(3)") == [None, 3]


def test_signals_are_passed_on(run):
    stop = StopRequest()
    stop.signum = 15
    assert statuses(run, "time.sleep(600)", stop=stop) == [-15, -15]


def test_no_rank_outlives_its_parent(tmp_path):
    code = f"""
import os, sys, time
from efficientconv.training.ddp import started
from efficientconv.runs.directory import RunDirectory
child = "import os, sys; print(os.getpid(), flush=True); sys.stdin.read()"
with started([sys.executable, "-S", "-c", child], 1, RunDirectory({str(tmp_path)!r})):
    time.sleep(600)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 60
    while _is_running(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _is_running(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


@pytest.mark.parametrize(
    ("found", "text", "reason"),
    [
        ([1, -9], "rank 0 of 2: peer closed", "rank 1 of 2 was ended by SIGKILL"),
        ([1, 1], "rank 1 of 2: no space", "rank 1 of 2: no space"),
        ([0, 3], None, "rank 1 of 2 ended with status 3"),
    ],
)
def test_the_reason_is_the_first_ranks_to_fail(tmp_path, found, text, reason):
    failure = tmp_path / "failure"
    if text:
        failure.write_text(text)
    assert ddp._reason(found, failure) == reason


def test_counts_devices(monkeypatch):
    assert device_count({"accelerator": "auto", "devices": 1}) == 1
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(3)))
    assert device_count({"accelerator": "cpu", "devices": 3}) == 3
    for devices in (-2, 0):
        with pytest.raises(
            UserError, match=rf"^trainer\.accelerator=cpu trainer\.devices={devices}: must be a number of"
        ):
            device_count({"accelerator": "cpu", "devices": devices})


def test_refuses_more_processes_than_cores_and_several_machines(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    with pytest.raises(UserError, match=r"^trainer\.accelerator=cpu trainer\.devices=99: this machine has 2 CPU cores"):
        device_count({"accelerator": "cpu", "devices": 99})
    with pytest.raises(UserError, match=r"^trainer\.num_nodes=2: one command starts .* torchrun --nnodes="):
        device_count({"accelerator": "cpu", "devices": 1, "num_nodes": 2})


def test_the_devices_are_those_that_torchrun_has_started_processes_for(monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert as_started({"trainer": {"devices": 1}, "seed": 0}) == {"trainer": {"devices": 2, "num_nodes": 2}, "seed": 0}
    with pytest.raises(UserError, match=r"^trainer\.devices=3: 2 were started; leave trainer\.devices out$"):
        as_started({"trainer": {"devices": 3}})


# -- whole runs: a network without batch norms, whose statistics would be each rank's own ------------------------------

RUN = [
    "model=lenet_doconv_sample",
    "conv=doconv",
    "data=digits",
    "recipe=cosine_cifar",
    "recipe.optimizer.lr=0.01",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
]
TWO = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "recipe.batch_size=32"]
FAILING = ["+callbacks.fail={_target_: fail_at.FailAt, seed: '${seed}', seed_that_fails: 0}"]
STOPPING = ["+callbacks.stop={_target_: fail_at.StopAt, step: 30}"]  # in the second epoch


def start(program, *overrides, cwd, **environment):
    variables = {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1", **environment}
    words = [sys.executable, str(ROOT / program), *overrides]
    return subprocess.run(words, cwd=cwd, env=os.environ | variables, capture_output=True, text=True, timeout=300)


JOBS = ["-m", *RUN, *TWO, *FAILING, "outputs=.", "sweep=two"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ddp")


@pytest.fixture(scope="module")
def found(folder):
    """Return the run of a sweep's job of two ranks, which is well."""
    result = start("train.py", *JOBS, "seed=1", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "\nepoch 1/2: loss " in result.stdout  # as one rank says it
    return RunDirectory(next((folder / "sweeps/two").glob("*seed-1*")))


@pytest.mark.slow
def test_a_rank_that_fails_ends_its_run_and_says_why(found, folder):
    result = start("train.py", *JOBS, "seed=0,1", cwd=folder)
    failed = RunDirectory(next((folder / "sweeps/two").glob("*seed-0*")))
    message = "rank 1 of 2: ArithmeticError: as the test wants it (HYDRA_FULL_ERROR=1 shows where)"
    assert result.returncode == 1
    assert result.stderr.splitlines() == [f"{failed.path.name}: {message}", f"1 of 2 jobs failed: {failed.path.name}"]
    summary = failed.read_summary()
    assert (summary["status"], summary["error"]) == ("failed", message)
    assert len(failed.read_metrics()) == 1
    assert "fail_at.py" in failed.log_file.read_text()
    assert found.read_summary()["status"] == "done"


@pytest.mark.filterwarnings("ignore")  # what silence_lightning keeps from users
def test_two_ranks_train_as_one_with_the_batches_of_both(found, tmp_path):
    from efficientconv.training.train import train

    one = RunDirectory(tmp_path / "one")
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("train", overrides=[*RUN, "recipe.batch_size=64", "seed=1"])
    choices = {"model": "lenet_doconv_sample", "conv": "doconv", "data": "digits"}
    train({**OmegaConf.to_container(config, resolve=True), "choices": choices}, one)
    expected, weights = (torch.load(r.checkpoint("last"), weights_only=True)["state_dict"] for r in (one, found))
    for name in expected:
        torch.testing.assert_close(weights[name], expected[name], rtol=1e-4, atol=1e-6)
    for row, alone in zip(found.read_metrics(), one.read_metrics(), strict=True):
        assert (row["step"], row["lr"], row["train/top1"]) == (alone["step"], alone["lr"], alone["train/top1"])
        assert float(row["train/loss"]) == pytest.approx(float(alone["train/loss"]), rel=1e-5)
    assert found.read_summary()["train_images"] == one.read_summary()["train_images"] == 2 * 1438
    assert found.read_summary()["devices"] == 2


@pytest.mark.filterwarnings("ignore")  # what silence_lightning keeps from users
def test_each_validation_image_is_counted_once(found):
    from efficientconv.training.evaluate import evaluate

    alone = evaluate(found, {"accelerator": "cpu", "devices": 1, "precision": "auto"}, allow=["fail_at"])
    assert alone["top1"] == found.read_summary()["last"]["top1"]
    assert alone["loss"] == pytest.approx(found.read_summary()["last"]["loss"], rel=1e-6)


@pytest.mark.slow
def test_ranks_stop_together_and_go_on_to_the_same_weights(found, tmp_path):
    stopped = RunDirectory(tmp_path / "stopped")
    words = [*RUN, *TWO, *STOPPING, "seed=1", f"run={stopped.path}"]
    result = start("train.py", *words, cwd=tmp_path, STOP="1")
    assert result.returncode == 143, result.stderr
    going_on = "python train.py resume=true run=stopped 'allow=[fail_at]'"
    assert result.stderr.splitlines()[-1] == f"interrupted (SIGTERM); to go on: {going_on}"
    assert stopped.read_summary()["status"] == "interrupted"
    assert torch.load(stopped.checkpoint("last"), weights_only=True)["global_step"] == 31  # one after it was asked for
    resumed = start("train.py", "resume=true", f"run={stopped.path}", "allow=[fail_at]", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    expected, weights = (torch.load(r.checkpoint("last"), weights_only=True) for r in (found, stopped))
    for name, value in expected["state_dict"].items():
        torch.testing.assert_close(weights["state_dict"][name], value, rtol=0, atol=0)
    rows, undisturbed_rows = stopped.read_metrics(), found.read_metrics()
    assert [row["train/loss"] for row in rows] == [row["train/loss"] for row in undisturbed_rows]


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0, 3], ids=["the first rank begins", "ranks import"])
def test_control_c_while_ranks_start(tmp_path, seconds):
    words = [sys.executable, str(ROOT / "train.py"), *RUN, *TWO, "outputs=."]
    variables = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, cwd=tmp_path, env=variables, stderr=subprocess.PIPE, start_new_session=True)
    while process.poll() is None and not list(tmp_path.glob("runs/*/*/*/config.yaml")):
        time.sleep(0.01)
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    (line,) = error.decode().splitlines()
    assert line.startswith("interrupted (SIGINT)")


@pytest.mark.slow
@pytest.mark.parametrize("override", ["seed=0", "model=cifar_resnet"], ids=["done", "failed"])
def test_under_torchrun_there_is_one_run_and_one_line(tmp_path, override):
    words = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--no-python", sys.executable]
    command = [sys.executable, *words, str(ROOT / "train.py"), *RUN, "trainer.max_epochs=1", override]
    failed = override != "seed=0"
    command += ["model.depth=9"] if failed else []
    variables = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=300)
    (run,) = (RunDirectory(path.parent) for path in tmp_path.rglob("config.yaml"))
    if failed:
        assert done.returncode != 0
        assert done.stderr.count("depth=9: must be 6n+2; the nearest are 8 and 14\n") == 1
    else:
        assert done.returncode == 0, done.stderr
        assert run.read_summary()["devices"] == 2
        assert run.read_summary()["status"] == "done"
        assert done.stdout.count("python eval.py run=") == 1


@pytest.mark.slow
def test_under_torchrun_a_word_that_does_not_compose_gets_one_line_before_torchrun_s_own(tmp_path):
    words = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--no-python", sys.executable]
    command = [sys.executable, *words, str(ROOT / "train.py"), "model=resnet5"]
    variables = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert done.stderr.startswith("model=resnet5: there is no such model; nearest first: resnet56, resnet50")
    assert done.stderr.count("there is no such model") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_tasks_of_a_step_of_slurm_are_ranks_of_one_run(tmp_path):
    step = {"SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "0", "SLURM_JOB_NAME": "mine", "SLURM_NODELIST": "127.0.0.1"}
    counts = ("SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_STEP_NUM_TASKS")
    step |= dict.fromkeys(counts, "2") | {"SLURM_NNODES": "1", "SLURM_STEP_NUM_NODES": "1", "SLURM_NODEID": "0"}
    command = [sys.executable, str(ROOT / "train.py"), *RUN, "trainer.max_epochs=1"]
    tasks = [
        subprocess.Popen(
            command,
            cwd=tmp_path,
            env=os.environ | step | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    printed = [task.communicate(timeout=300)[0] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0]
    assert printed[1] == ""
    (run,) = (RunDirectory(path.parent) for path in tmp_path.rglob("config.yaml"))
    assert run.path.name == "slurm-4711-0"
    assert (run.read_summary()["devices"], run.read_summary()["status"]) == (2, "done")
