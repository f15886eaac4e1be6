import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from efficientconv.bench.step import BARE, REAL
from efficientconv.bench.tool import bench
from efficientconv.errors import UserError
from tests.bench.conftest import configuration

pytestmark = pytest.mark.filterwarnings("ignore")  # what silence_lightning keeps from users

ROOT = Path(__file__).parents[2]
FEW = ["data.images=40", "recipe.batch_size=8", "rounds=1"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "efficientconv bench : say what to measure: loader or step"),
        (["action=loader", "data=image_folder"], "^data.root is missing: give it as data.root=<value>$"),
        (["action=layer"], "efficientconv bench layer: say what to measure: loader or step"),
        (["action=step", "rounds=0"], "rounds=0: must be a whole number of at least 1"),
        (["action=step", "steps=1.5"], "steps=1.5: must be a whole number of at least 1"),
        (["action=loader", "seconds=-1"], "seconds=-1: must be a number of at least 0"),
    ],
)
def test_mistakes(overrides, message):
    with pytest.raises(UserError, match=message):
        bench(configuration(*overrides))


def test_loaders_as_a_table_and_as_json(tmp_path, capsys):
    file = tmp_path / "figures.json"
    bench(configuration("action=loader", *FEW, "seconds=0", f"json={file}"))
    figures = json.loads(file.read_text())
    assert figures["loaders"].keys() == {"memory", "plain DataLoader"}
    assert figures["config"]["data"]["images"] == 40
    assert {"versions", "device", "commit"} <= figures.keys()
    printed = capsys.readouterr().out
    ratio = figures["loaders"]["memory"]["ratio"]
    assert f"│ {ratio:.2f}" in printed
    assert "random, 32 pixels, batches of 8 on cpu" in printed


def test_the_command_line_measures_steps_and_makes_no_directory(tmp_path):
    words = [
        "bench",
        "step",
        "model=lenet_doconv_sample",
        *FEW,
        "steps=2",
        "trainer.accelerator=cpu",
        "json=figures.json",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "efficientconv", *words],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["loops"].keys() == {REAL, BARE}
    assert f"│ {figures['loops'][REAL]['ratio']:.3f}" in done.stdout
    assert "overhead of train.py's loop" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]
