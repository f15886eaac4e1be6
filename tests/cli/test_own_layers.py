"""Convolutions of the user's own, in the current folder: a stored run names them only where they are allowed."""

import sys

import pytest

from tests.training.conftest import TINY

pytestmark = pytest.mark.filterwarnings("ignore")  # what silence_lightning keeps from users

LAYER = """
from efficientconv.layers import BSConvU


class Mine(BSConvU):
    pass
"""
WORDS = [*TINY, "trainer.max_epochs=1", "conv.layer._target_=layers_of_mine.Mine", "run=mine"]


def test_a_layer_in_the_current_folder_trains_and_is_evaluated_as_the_last_line_says(command, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "layers_of_mine.py").write_text(LAYER)
    trained = command("train", *WORDS)
    assert trained.stderr == ""
    assert "Mine" in trained.stdout
    assert trained.stdout.splitlines()[-1] == "python eval.py run=mine 'allow=[layers_of_mine]'"
    refused = command("eval", "run=mine", "trainer.accelerator=cpu")
    assert (refused.status, refused.stderr.count("\n")) == (1, 1)
    assert "which is not run from a stored configuration; if you trust it, say allow=[layers_of_mine]" in refused.stderr
    assert command("eval", "run=mine", "allow=[layers_of_mine]", "trainer.accelerator=cpu").status == 0
    resumed = command("train", "resume=true", "run=mine", "trainer.max_epochs=2")
    assert "say allow=[layers_of_mine]" in resumed.stderr
    going_on = command("train", "resume=true", "run=mine", "trainer.max_epochs=2", "allow=[layers_of_mine]")
    assert (going_on.status, going_on.stderr) == (0, "")
