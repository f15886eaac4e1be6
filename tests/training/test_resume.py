"""A killed run goes on as if nothing had happened: real processes, real signals, weights compared bit for bit.

What is neither killed nor stopped runs within the process of the tests.
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from efficientconv.runs.directory import RunDirectory

pytestmark = pytest.mark.filterwarnings("ignore")  # what silence_lightning keeps from users
ROOT = Path(__file__).parents[2]
STEPS_PER_EPOCH = 6  # 20% of the digits' 1,438 training images in batches of 48
RUN = [
    "model=cifar_resnet",
    "model.depth=8",
    "model.width=0.25",
    "conv=bsconv_s",
    "conv.layer.min_mid_channels=2",
    "data=digits",
    "data.train_fraction=0.2",
    "recipe.batch_size=48",
    "trainer.max_epochs=3",
    "trainer.accelerator=cpu",
]


def killed_process(directory, *overrides):
    variables = {"KILL": "1", "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, str(ROOT / "train.py"), f"run={directory}", *overrides]
    settings = {"env": os.environ | variables, "cwd": directory.parent, "timeout": 240}
    return subprocess.run(words, **settings, capture_output=True, text=True)


@pytest.fixture
def train(command, monkeypatch):
    """Return a function that trains to the end."""
    monkeypatch.setenv("KILL", "0")
    monkeypatch.syspath_prepend(Path(__file__).parent)

    def trained(directory, *overrides):
        done = command("train", f"run={directory}", *overrides)
        assert done.status == 0, done.stderr

    return trained


def weights(directory):
    return torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def assert_same_run(killed, undisturbed):
    expected, found = weights(undisturbed), weights(killed)
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    rows, expected_rows = (RunDirectory(path).read_metrics() for path in (killed, undisturbed))
    deterministic = [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows]
    assert deterministic == [{k: v for k, v in row.items() if k != "images_per_second"} for row in expected_rows]


def killer(step, signum):
    return [f"+callbacks.kill={{_target_: kill_at.KillAt, step: {step}, signum: {int(signum)}}}"]


EVERY = "callbacks.checkpoints.every_n_steps"
CASES = {
    "in the first epoch, before any checkpoint": (4, []),
    "in the middle of an epoch, after a checkpoint there, mixup on": (9, ["recipe.mixup=0.4", f"{EVERY}=2"]),
    "at the last step of an epoch, with averaged weights": (2 * STEPS_PER_EPOCH, ["callbacks=ema", f"{EVERY}=3"]),
}


@pytest.mark.parametrize(
    ("step", "overrides"),
    [
        pytest.param(*case, id=name, marks=[pytest.mark.slow] if "middle" not in name else [])
        for name, case in CASES.items()
    ],
)
def test_a_run_killed_by_sigkill_resumes_to_the_same_weights(train, tmp_path, step, overrides):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    run = [*RUN, *overrides, *killer(step, signal.SIGKILL)]
    train(undisturbed, *run)
    assert killed_process(killed, *run).returncode == -signal.SIGKILL
    assert RunDirectory(killed).read_summary()["status"] == "running"
    train(killed, "resume=true", "allow=[kill_at]")
    summary = RunDirectory(killed).read_summary()
    assert summary["status"] == "done"
    assert summary["epochs"] == 3
    assert summary["train_images"] == RunDirectory(undisturbed).read_summary()["train_images"]
    assert_same_run(killed, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signum", "code", "step"), [(signal.SIGINT, 130, 8), (signal.SIGTERM, 143, 2 * STEPS_PER_EPOCH)]
)
def test_a_stop_signal_leaves_a_run_that_resumes_from_that_step(train, tmp_path, signum, code, step):
    undisturbed, stopped = tmp_path / "undisturbed", tmp_path / "stopped"
    run = [*RUN, "recipe.cutmix=1.0", *killer(step, signum)]
    train(undisturbed, *run)
    interrupted = killed_process(stopped, *run)
    assert interrupted.returncode == code, interrupted.stderr
    last_line = interrupted.stderr.strip().splitlines()[-1]
    name = signal.Signals(signum).name
    assert last_line.startswith(f"interrupted ({name}); to go on: python train.py resume=true run=")
    assert last_line.endswith("'allow=[kill_at]'")
    assert RunDirectory(stopped).read_summary()["status"] == "interrupted"
    assert torch.load(stopped / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == step
    train(stopped, "resume=true", "allow=[kill_at]")
    assert_same_run(stopped, undisturbed)


def test_a_finished_sweep_is_skipped_wherever_its_images_are_and_a_resumed_run_takes_them(
    command, train, tiny_mnist, tmp_path, monkeypatch
):
    elsewhere = tmp_path / "scratch" / "17"
    shutil.copytree(tiny_mnist, elsewhere)
    words = ["-m", *(word for word in RUN if not word.startswith(("data", "trainer.max_epochs")))]
    words += ["data=mnist", "trainer.max_epochs=1", "recipe.batch_size=30"]
    first = command("train", *words, f"data.root={tiny_mnist}")
    assert first.status == 0, first.stderr
    (path,) = (tmp_path / "outputs" / "sweeps" / "default").glob("*_*")
    intervals = ["trainer.log_every_n_steps=7", "callbacks.checkpoints.every_n_minutes=10"]
    other_place = command("train", *words, f"data.root={elsewhere}", *intervals)
    assert other_place.stdout.startswith("1 of 1 jobs are done already"), other_place.stderr
    monkeypatch.setenv("EFFICIENTCONV_DATA", str(elsewhere))
    again = command("train", *words, "data.eval_batch_size=7")
    assert again.status == 0, again.stderr
    assert again.stdout.startswith("1 of 1 jobs are done already")
    run = RunDirectory(path)
    assert run.read_config()["data"]["root"] == str(tiny_mnist)
    shutil.rmtree(tiny_mnist)
    train(path, "resume=true", "trainer.max_epochs=2", f"data.root={elsewhere}", "data.eval_batch_size=7")
    assert run.read_summary()["epochs"] == 2
    assert run.read_config()["data"]["root"] == str(elsewhere)
