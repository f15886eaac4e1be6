"""Both tools as a user meets them."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from efficientconv.deploy.tool import predict
from efficientconv.errors import UserError
from tests.deploy.conftest import tool_config

pytestmark = pytest.mark.filterwarnings("ignore")  # what silence_lightning keeps from users
ROOT = Path(__file__).parents[2]


def efficientconv(*words, cwd):
    return subprocess.run(
        [sys.executable, "-m", "efficientconv", *map(str, words)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
    )


@pytest.mark.slow
def test_int8_with_preprocessing_is_exported_and_predicts(own_run, photographs, tmp_path):
    words = (
        f"run={own_run.path}",
        "quantize=int8",
        "preprocessing=true",
        "calibration=64",
        "images=80",
        "output=n.onnx",
    )
    done = efficientconv("export", *words, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for cell in ("on 80 test images", "trained", "folded", "onnx int8", "n.onnx\nn.onnx.md"):
        assert cell in done.stdout
    assert "8-bit integers" in (tmp_path / "n.onnx.md").read_text()
    assert (tmp_path / "n.onnx").stat().st_size < 200_000

    done = efficientconv("predict", "n.onnx", photographs, "top=2", "sheet=s.png", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    rows = list(csv.reader((tmp_path / "predictions.csv").open()))
    assert [len(row) for row in rows] == [5] * 4
    assert all(row[1] in "0123456789" and 0 < float(row[2]) <= 1 for row in rows[1:])
    assert Image.open(tmp_path / "s.png").format == "PNG"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "n.onnx",
        "n.onnx.md",
        "predictions.csv",
        "run",
        "s.png",
    ]


def test_a_mistake_gets_one_line_and_leaves_nothing(own_run, command):
    done = command("export", f"run={own_run.path}", "format=onx")
    assert done.status == 1
    assert done.stderr.startswith("format=onx: there is no such format; nearest first: onnx")
    assert done.stderr.count("\n") == 1
    assert not (own_run.path / "export").exists()
    done = command("export")
    assert (done.status, done.stderr.count("\n")) == (1, 1)
    assert "run is missing: give it as run=<value>" in done.stderr


def test_predictions_on_the_screen(finished_run, photographs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = predict(tool_config("predict", f"run={finished_run}", "top=1"), [str(photographs / "a.png")])
    (name, probability), *_ = found[0].classes
    assert f"{name} {probability:.1%}" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []  # one image needs no CSV


def test_damaged_images_leave_nothing(finished_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "a.png").write_text("no image")
    with pytest.raises(UserError, match=r"a.png: not an image"):
        predict(tool_config("predict", f"run={finished_run}", "sheet=s.png"), ["photographs"])
    assert [path.name for path in tmp_path.iterdir()] == ["photographs"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "a network is missing: efficientconv predict run=DIR images"),
        (["a.png"], "a network is missing"),
        (["x.onnx"], "images are missing: name image files or folders"),
    ],
)
def test_words_that_are_missing(words, message):
    with pytest.raises(UserError, match=message):
        predict(tool_config("predict"), words)


def test_top_is_a_number():
    with pytest.raises(UserError, match="top=0: must be a whole number of at least 1"):
        predict(tool_config("predict", "top=0"), ["x.onnx", "a.png"])
