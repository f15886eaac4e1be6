"""The tool as a user meets it: real processes."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def command(*words, cwd):
    line = [sys.executable, "-m", "efficientconv", "report", *words]
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(line, cwd=cwd, env=variables, capture_output=True, text=True, timeout=240)


def test_from_directories_to_a_table_and_from_a_mistake_to_one_line(sweep, tmp_path):
    done = command("sweep", "group_by=conv,model", "format=markdown", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("| conv | model | top-1, % | n | vs standard |")
    assert [path.name for path in tmp_path.iterdir()] == ["sweep"]  # a tool that only reads leaves nothing

    done = command("sweep", "formt=csv", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "formt: there is no such key; nearest: format, metric, group_by, save, places\n"
