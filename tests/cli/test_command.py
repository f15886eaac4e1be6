"""The command line as a user meets it: real processes, one line for each mistake, non-zero exit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(program, *overrides, cwd, **environment):
    script = ["-m", "efficientconv", program] if program not in ("train", "eval") else [str(ROOT / f"{program}.py")]
    variables = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(
        [sys.executable, *script, *overrides], cwd=cwd, env=variables, capture_output=True, text=True, timeout=240
    )


HEAVY = "torch lightning pytorch_lightning wandb nvidia timm torchvision torchmetrics sklearn"


@pytest.mark.parametrize("statement", ["import efficientconv", "import efficientconv.cli"])
def test_importing_the_front_door_imports_nothing_heavy(statement, tmp_path):
    code = f"{statement}, sys; print([name for name in '{HEAVY}'.split() if name in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code.replace(", sys", "; import sys", 1)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "[]"


def test_help_imports_nothing_heavy_and_lists_the_catalogue(tmp_path):
    code = f"""
import atexit, runpy, sys
atexit.register(lambda: print([name for name in '{HEAVY}'.split() if name in sys.modules]))
sys.argv = ['train.py', '--help']
runpy.run_path({str(ROOT / "train.py")!r}, run_name='__main__')
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert found.stdout.strip().endswith("[]"), found.stderr
    for word in ("resnet56", "bsconv_u", "bdrconv", "image_folder", "cosine_cifar"):
        assert word in found.stdout
    assert list(tmp_path.iterdir()) == []


MISTAKES = {
    "model=resnet5": "model=resnet5: there is no such model; nearest first: resnet56, resnet50",
    "conv=bsconvu": "conv=bsconvu: there is no such conv; nearest first: bsconv_u, bsconv_s",
    "data=cifar": "data=cifar: there is no such data; nearest first: cifar10",
    "recipe=bsconv_cifer": "recipe=bsconv_cifer: there is no such recipe; nearest first: bsconv_cifar",
    "traner.max_epochs=1": "traner.max_epochs: there is no such key; nearest: trainer.max_epochs",
    "model.dept=56": "model.dept: there is no such key; nearest: model.depth",
    "conv.layer.p=0.5": "conv.layer.p: there is no such key; nearest: conv.layer",
    "run=": "run is empty: give a directory, or leave run= out for a new one",
    "model=timm": "model.name is missing: give it as model.name=<value>",
    "data=image_folder": "data.root is missing: give it as data.root=<value>",
    "model.depth=57": "depth=57: must be 6n+2; the nearest are 56 and 62",
    "seed=[1": "seed=[1: cannot be read; a text with spaces or brackets needs quotes: 'seed=",
    "resume=maybe": "resume=maybe: must be true or false",
    "outputs=/proc/nowhere": "/proc/nowhere: No such file or directory; outputs=<folder>, or run=<folder> for one",
    "conv.layer={_target_: mine.Conv}": "conv.layer._target_=mine.Conv: No module named 'mine'; a module of your own",
    "resume=true": "resume=true needs the run directory: run=outputs/runs/",
}


@pytest.mark.parametrize(("override", "message"), MISTAKES.items(), ids=MISTAKES.keys())
def test_a_mistake_gets_one_line(override, message, command, tmp_path):
    ended = command("train", "data=digits", override)
    assert ended.status == 1
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert message in ended.stderr


def test_a_log_that_cannot_be_written(command, tmp_path):
    (tmp_path / "mine" / "train.log").mkdir(parents=True)
    ended = command("train", "data=digits", "run=mine")
    assert (ended.status, ended.stderr.count("\n")) == (1, 1)
    assert "mine/train.log: Is a directory; outputs=<folder>, or run=<folder> for one run, says where" in ended.stderr


def test_a_file_where_runs_should_go(command, tmp_path):
    (tmp_path / "outputs").touch()
    ended = command("train", "data=digits")
    assert (ended.status, ended.stderr.count("\n")) == (1, 1)
    assert "outputs" in ended.stderr
    assert "; outputs=<folder>, or run=<folder> for one run, says where runs go" in ended.stderr


def test_bad_input_leaves_no_directory_behind(command, tmp_path):
    assert command("train", "data=digits", "recipe.optimizer.lr=-1").status == 1
    assert list(tmp_path.iterdir()) == []


def test_control_c_right_at_the_start(command, monkeypatch):
    def interrupt(words):
        raise KeyboardInterrupt

    monkeypatch.setattr("efficientconv.cli.training.run_training", interrupt)
    assert command("train") == (130, "", "interrupted (SIGINT)\n")


@pytest.mark.parametrize("seconds", [0, 0.2])
def test_control_c_in_a_real_process_before_it_trains(tmp_path, seconds):
    code = """
import sys
from efficientconv.cli import train

class Watch:
    def find_spec(self, name, path, target=None):
        if name == "efficientconv.cli.training":  # the command has begun
            print("begins", flush=True)

sys.meta_path.insert(0, Watch())
train()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, "data=digits"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "begins\n"
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, error) == (130, "interrupted (SIGINT)\n")


@pytest.mark.parametrize("swallowed", ["raise ValueError", "require_not_interrupted()"])
def test_control_c_that_a_library_swallows(tmp_path, swallowed):
    code = f"""
import os, signal
from efficientconv.cli.ending import one_line_errors, require_not_interrupted
with one_line_errors():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        {swallowed}
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr) == (130, "interrupted (SIGINT)\n")


def test_eval_of_nothing(command):
    assert command("eval", "run=").stderr.startswith("run is empty: give a run directory, run=outputs/runs/")


def test_a_real_process_ends_with_one_line_and_status_1(tmp_path):
    ended = run("train", "data=digits", "traner.max_epochs=1", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("traner.max_epochs: there is no such key; nearest: trainer.max_epochs")
    assert ended.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
