"""A sweep that is done, started again by its command line: nothing is trained, and nothing heavy imported."""

import os
import subprocess
import sys
from pathlib import Path

from efficientconv.runs.names import job_name
from tests.training.conftest import TINY

ROOT = Path(__file__).parents[2]
CODE = """
import sys
from efficientconv.cli import run
for launcher in ("local", "joblib", "slurm"):
    run("train", [*sys.argv[1:], f"launcher={launcher}"])
assert "torch" not in sys.modules
"""


def test_done_jobs_import_no_torch(sweep, write_run):
    words = [*TINY, "sweep=first"]
    for seed in (0, 1):
        name = job_name([*words, f"seed={seed}"], {"_target_": "efficientconv.datasets.open_digits"})
        write_run(f"seed-{seed}", "done", best={"top1": 0.5}).path.rename(sweep / name)
    line = [sys.executable, "-c", CODE, "-m", *words, "seed=0,1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(line, cwd=sweep.parents[2], env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("2 of 2 jobs are done already\n")
    assert ended.stdout.count("2 of 2 jobs are done already\n") == 3  # of each launcher
    assert ended.stdout.count("50.00%") == 6
    assert [path.name for path in sweep.glob(".ended-*")] == []
