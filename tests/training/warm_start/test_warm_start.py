"""Whole runs that begin with the weights of another one, and go on without it."""

import shutil

import pytest
import torch
from lightning.pytorch import Callback

from efficientconv.errors import UserError
from efficientconv.runs.directory import RunDirectory
from efficientconv.training.job import train_job
from efficientconv.training.train import train
from tests.training.conftest import composed, resolved

pytestmark = pytest.mark.filterwarnings("ignore")  # what silence_lightning keeps from users

WORDS = ("conv.initialize_from_replaced=true", "teacher=original", "recipe=finetune", "recipe.layer_decay=0.9")


def warm(plain, *overrides):
    return resolved(
        f"init_from={plain.path}",
        "conv=doconv",
        *WORDS,
        "recipe.image_size=14",
        "recipe.crop_padding=1",
        "recipe.batch_size=48",
        *overrides,
    )


def weights(run):
    return torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]


def test_a_warm_run_records_its_beginning_and_goes_on_without_it(plain, tmp_path):
    whole, parted = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "parted")
    config = warm(plain, "trainer.max_epochs=2")
    train(config, whole)
    train(warm(plain, "trainer.max_epochs=1"), parted)
    summary, report = parted.read_summary(), parted.replaced_file.read_text()
    assert summary["init_from"]["source"] == str(plain.path)
    assert len(summary["init_from"]["sha256"]) == 64
    assert parted.read_config()["init_from"] == str(plain.path)
    assert summary["at_start"]["top1"] == pytest.approx(plain.read_summary()["last"]["top1"])
    assert summary["at_start"]["loss"] == pytest.approx(plain.read_summary()["last"]["loss"], rel=1e-5)
    shutil.rmtree(plain.path)
    train(config, parted)
    expected = weights(whole)
    assert parted.read_summary()["epochs"] == 2
    assert parted.read_summary()["init_from"] == summary["init_from"]
    assert parted.replaced_file.read_text() == report
    assert weights(parted).keys() == expected.keys()


def test_a_warm_run_that_goes_on_is_the_undisturbed_one(plain, tmp_path):
    """As with ``trainer.max_epochs`` unchanged: the schedule is then the same."""
    whole, parted = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "parted")
    config = warm(plain, "trainer.max_epochs=2")
    train(config, whole)
    stopped = {**config, "callbacks": config["callbacks"] | {"stop": {"_target_": f"{__name__}.StopAfterOne"}}}
    with pytest.raises(RuntimeError, match="enough"):
        train(stopped, parted)
    shutil.rmtree(plain.path)
    train(config, parted)
    found, expected = weights(parted), weights(whole)
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_before_its_first_checkpoint_a_warm_run_begins_again_by_its_command_line(plain, tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    run.write_config(warm(plain))
    run.update_summary(status="interrupted", overrides=["conv=doconv", f"init_from={plain.path}"])
    with pytest.raises(UserError, match=r"begins with weights that resuming does not load \(init_from=.*teacher=orig"):
        train_job(composed("resume=true", f"run={run.path}"), str(run.path), {}, ["resume=true"], is_sweep=False)


class StopAfterOne(Callback):
    """Ends the training in its second epoch."""

    def on_train_batch_start(self, trainer, *args) -> None:
        if trainer.current_epoch == 1:
            raise RuntimeError("enough")
