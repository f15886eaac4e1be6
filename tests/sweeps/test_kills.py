"""A real joblib sweep whose processes are all killed at random moments until it is complete.

By hand, with more of everything::

    SWEEP_JOBS=12 SWEEP_KILLS=20 SWEEP_EPOCHS=30 pytest -m slow -s tests/sweeps/test_kills.py
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from efficientconv.runs.directory import RunDirectory
from tests.training.conftest import TINY

ROOT = Path(__file__).parents[2]
JOBS = int(os.environ.get("SWEEP_JOBS", "4"))
KILLS = int(os.environ.get("SWEEP_KILLS", "3"))
EPOCHS = int(os.environ.get("SWEEP_EPOCHS", "8"))
LINE = ["-m", *TINY, f"trainer.max_epochs={EPOCHS}", f"seed=range({JOBS})", "sweep=killed"]
EARLY = 0.3  # of the kills: before a job trains


def start(folder: Path, *words: str) -> subprocess.Popen:
    """Start the sweep in a process group of its own."""
    folder.mkdir(exist_ok=True)
    with (folder / "lines").open("a") as lines:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *LINE, *words],
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=lines,
            stderr=lines,
            start_new_session=True,
        )


def kill_often(folder: Path, words: list[str], kills: int) -> int:
    """Start the sweep and kill all its processes, so often; return how often it was killed before it was complete."""
    dice = random.Random(0)
    for killed in range(kills):
        print(
            f"kill {killed + 1}: {len(rows(folder))} jobs have begun, {sum(rows(folder).values())} epochs done",
            flush=True,
        )
        sweep = start(folder, *words)
        if dice.random() > EARLY:
            wait_for_an_epoch(folder, sweep)
        try:
            assert sweep.wait(dice.uniform(0.0, 6.0)) == 0
            return killed
        except subprocess.TimeoutExpired:
            os.killpg(sweep.pid, signal.SIGKILL)
            sweep.wait()
    return kills


def rows(folder: Path) -> dict[str, int]:
    """Count the epochs that each job has written."""
    return {
        str(file): len(file.read_text().splitlines()) - 1 for file in folder.glob("outputs/sweeps/killed/*/metrics.csv")
    }


def wait_for_an_epoch(folder: Path, sweep: subprocess.Popen) -> None:
    """Wait until a job has written an epoch, or the sweep has ended."""
    before = rows(folder)
    while rows(folder) == before and sweep.poll() is None:
        time.sleep(0.05)


def weights(run: RunDirectory) -> dict[str, torch.Tensor]:
    return torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]


def figures(run: RunDirectory) -> list[dict[str, str]]:
    """Return the rows of all epochs, without the one figure that is a speed."""
    return [{key: value for key, value in row.items() if key != "images_per_second"} for row in run.read_metrics()]


@pytest.mark.slow
def test_a_sweep_that_is_killed_again_and_again_ends_as_an_undisturbed_one(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    began = time.monotonic()
    assert start(tmp_path / "undisturbed").wait() == 0
    engine = ["launcher=joblib", "launcher.n_jobs=2"]
    killed = kill_often(tmp_path / "killed", engine, KILLS)
    assert killed > 0
    assert start(tmp_path / "killed", *engine).wait() == 0, (tmp_path / "killed" / "lines").read_text()
    folders = [sorted((tmp_path / each / "outputs/sweeps/killed").glob("*/")) for each in ("undisturbed", "killed")]
    assert [path.name for path in folders[0]] == [path.name for path in folders[1]]
    for undisturbed, disturbed in zip(*(map(RunDirectory, each) for each in folders), strict=True):
        summaries = undisturbed.read_summary(), disturbed.read_summary()
        for key in ("status", "epochs", "train_images", "best", "last"):
            assert summaries[0][key] == summaries[1][key]
        assert figures(undisturbed) == figures(disturbed)
        pairs = zip(weights(undisturbed).values(), weights(disturbed).values(), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)
    print(f"{JOBS} jobs, {killed} kills survived, {time.monotonic() - began:.0f} s in all")
