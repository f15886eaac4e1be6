import logging

import pytest
import torch

from efficientconv.runs.directory import RunDirectory
from efficientconv.training.train import train
from tests.training.conftest import resolved

pytestmark = pytest.mark.filterwarnings("ignore")  # what silence_lightning keeps from users
FINDER = ["callbacks=lr_finder", "callbacks.lr_finder.steps=40"]


def weights_of(run: RunDirectory) -> dict[str, torch.Tensor]:
    return torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]


def test_it_tells_a_rate_and_the_training_is_as_without_it(trained, tmp_path, caplog):
    run = RunDirectory(tmp_path / "run")
    with caplog.at_level(logging.INFO):
        train(resolved(*FINDER), run)
    (line,) = [text for text in caplog.messages if "recipe.optimizer.lr=" in text]
    rate = float(line.partition("recipe.optimizer.lr=")[2])
    assert 1e-6 < rate < 10
    expected = weights_of(trained)
    found = weights_of(run)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert [row["val/top1"] for row in run.read_metrics()] == [row["val/top1"] for row in trained.read_metrics()]


def test_a_run_that_goes_on_looks_for_none(tmp_path, caplog):
    run = RunDirectory(tmp_path / "run")
    train(resolved(*FINDER, "trainer.max_epochs=1"), run)
    with caplog.at_level(logging.INFO):
        caplog.clear()
        train(resolved(*FINDER), run)
    assert "callbacks=lr_finder: a run that goes on keeps its rate, so none is looked for" in caplog.messages
    assert not [text for text in caplog.messages if "recipe.optimizer.lr=" in text]
    assert len(run.read_metrics()) == 2


def test_too_few_steps_find_no_rate(tmp_path, caplog):
    train(
        resolved("callbacks=lr_finder", "callbacks.lr_finder.steps=4", "trainer.max_epochs=1"), RunDirectory(tmp_path)
    )
    assert "callbacks=lr_finder: no rate was found; callbacks.lr_finder.steps=<more> looks longer" in caplog.messages
