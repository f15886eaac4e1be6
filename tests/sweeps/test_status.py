import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from efficientconv.errors import UserError
from efficientconv.sweeps.status import find_jobs, run


def status(sweep, capsys):
    run({"action": "status", "sweep": str(sweep), "outputs": "outputs"})
    return capsys.readouterr().out.replace(str(sweep), "SWEEP").splitlines()


def write_jobs(sweep, seeds):
    known = {f"seed-{n}": {"name": f"seed-{n}", "overrides": ["conv=bsconv_u", f"seed={n}"]} for n in seeds}
    (sweep / "jobs.json").write_text(json.dumps({k: v | {"mark": "", "difference": ""} for k, v in known.items()}))


def test_says_how_far_a_sweep_is(sweep, write_run, capsys):
    write_jobs(sweep, range(6))
    write_run("seed-0", "done")
    write_run("seed-1", "failed", epochs=0, error="depth=9: must be 6n+2")
    write_run("seed-2", "running", epochs=1)  # by nobody
    write_run("seed-3", "interrupted", epochs=1)
    with write_run("seed-4", "running", epochs=1).lock():
        told = status(sweep, capsys)
    assert told == [
        "SWEEP: 6 jobs",
        "  done            1",
        "  running         1",
        "  interrupted     2",
        "  failed          1",
        "  left            1",
        "100 images/s, about 5 min left",  # two minutes a job, two and a half jobs left, one at a time
        "running: seed=4: 1 of 2 epochs",
        "failed: SWEEP/seed-1: depth=9: must be 6n+2",
    ]


def test_says_how_to_go_on_where_nothing_runs(sweep, write_run, capsys):
    write_jobs(sweep, range(2))
    write_run("seed-0", "done")
    assert status(sweep, capsys)[-1] == "nothing runs; the sweep's command line goes on with it"


def test_a_sweep_that_is_done(sweep, write_run, capsys):
    write_jobs(sweep, range(1))
    write_run("seed-0", "done")
    assert status(sweep, capsys) == ["SWEEP: 1 jobs", "  done            1"]


def test_jobs_that_began_before_there_was_a_list_of_them(sweep, write_run):
    write_jobs(sweep, range(1))
    write_run("seed-3", "done")
    assert [job.name for job in find_jobs(sweep)] == ["seed-0", "seed-3"]


@pytest.mark.parametrize(
    ("action", "name", "message"),
    [
        ("status", "frist", "sweep=frist: there is no such sweep in outputs/sweeps; nearest first: first"),
        ("status", "", "sweep=: there is no such sweep in outputs/sweeps; nearest first: first"),
        ("stop", "first", "efficientconv sweep stop: there is status alone"),
        ("status", "first", "outputs/sweeps/first: there is no job in it"),
    ],
)
def test_refusals(action, name, message, sweep, monkeypatch):
    monkeypatch.chdir(sweep.parents[2])
    with pytest.raises(UserError, match=f"^{message}$"):
        run({"action": action, "sweep": name, "outputs": "outputs"})


def test_imports_no_torch(sweep, write_run):
    write_run("seed-0", "done")
    code = (
        "import sys; from efficientconv.cli import run; "
        f"run('sweep', ['status', {str(sweep)!r}]); raise SystemExit('torch' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "done            1" in ended.stdout
