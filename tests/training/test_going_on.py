"""Stopped and gone on with in this process: on other devices, with averaged weights, after a closed terminal."""

import shlex
import signal
from functools import partial
from pathlib import Path

import pytest
import torch

from efficientconv.errors import Interrupted, UserError
from efficientconv.runs.directory import RunDirectory
from efficientconv.training.evaluate import evaluate
from efficientconv.training.optim import warmup_cosine
from efficientconv.training.train import train
from tests.training.conftest import resolved

pytestmark = pytest.mark.filterwarnings("ignore")  # what silence_lightning keeps from users

CPU = {"accelerator": "cpu", "devices": 1, "precision": "auto"}


@pytest.fixture
def stop_after(monkeypatch):
    """Train until a signal comes after some step; return what was raised, with nothing left that would stop again."""
    monkeypatch.syspath_prepend(Path(__file__).parent)

    def stop(run, step, signum, *overrides):
        config = resolved(
            *overrides, f"+callbacks.kill={{_target_: kill_at.KillAt, step: {step}, signum: {int(signum)}}}"
        )
        monkeypatch.setenv("KILL", "1")
        with pytest.raises(Interrupted) as caught:
            train(config, run)
        monkeypatch.setenv("KILL", "0")
        assert run.read_summary()["status"] == "interrupted"
        return caught.value

    return stop


@pytest.mark.slow
def test_on_twice_the_devices_the_rates_stay_those_of_the_schedule(tmp_path, stop_after):
    run, epochs, steps = RunDirectory(tmp_path / "run"), 4, (3, 2)  # steps of an epoch on one device, and on two
    stop_after(run, 2 * steps[0], signal.SIGTERM, "recipe=cosine_cifar", f"trainer.max_epochs={epochs}")
    config = run.read_config()
    train(config | {"trainer": config["trainer"] | {"devices": 2}}, run)
    rates = [float(row["lr"]) for row in run.read_metrics()]
    factor = partial(warmup_cosine, warmup=config["recipe"]["schedule"]["warmup"])
    expected = [
        factor(s * e - 1, s * epochs) for e, s in zip((1, 2, 3, 4), (steps[0],) * 2 + (steps[1],) * 2, strict=True)
    ]
    assert rates == pytest.approx([config["recipe"]["optimizer"]["lr"] * each for each in expected])
    assert run.read_summary()["devices"] == 2


def test_stopped_at_its_very_end_a_run_tests_its_averaged_weights(tmp_path, stop_after):
    run = RunDirectory(tmp_path / "run")
    words = ["callbacks=ema", "data.train_fraction=0.3", "data.val_split=0.5", "trainer.max_epochs=1"]
    stop_after(run, 5, signal.SIGINT, *words)
    assert torch.load(run.checkpoint("last"), weights_only=True)["global_step"] == 5
    train(run.read_config(), run)
    averaged, raw = (evaluate(run, CPU, weights=weights) for weights in ("ema", "last"))
    summary = run.read_summary()
    assert summary["status"] == "done"
    assert summary["test"]["loss"] == pytest.approx(averaged["loss"])
    assert raw["loss"] != pytest.approx(averaged["loss"])


def test_a_closed_terminal_saves_and_tells_how_to_go_on(tmp_path, monkeypatch, stop_after):
    monkeypatch.chdir(tmp_path)
    run = RunDirectory(tmp_path / "a run")
    stopped = stop_after(run, 2, signal.SIGHUP)
    assert (stopped.exit_code, str(stopped)) == (129, "SIGHUP")
    assert torch.load(run.checkpoint("last"), weights_only=True)["global_step"] == 2
    assert shlex.split(stopped.going_on) == ["python", "train.py", "resume=true", "run=a run", "allow=[kill_at]"]


def test_a_damaged_checkpoint_changes_nothing_and_names_the_best_one(trained):
    last = trained.checkpoint("last")
    last.write_bytes(last.read_bytes()[:1000])
    config, summary = trained.read_config(), trained.read_summary()
    best = summary["best"]["epoch"]
    with pytest.raises(
        UserError, match=rf"best\.ckpt, of epoch {best}, is whole: python eval\.py run=\S+ weights=best"
    ):
        train(config | {"trainer": config["trainer"] | {"max_epochs": 3}}, trained)
    assert (trained.read_config(), trained.read_summary()) == (config, summary)
    assert evaluate(trained, CPU, weights="best")["top1"] == summary["best"]["top1"]
    trained.checkpoint("best").write_bytes(b"damaged too")
    with pytest.raises(UserError) as caught:
        evaluate(trained, CPU)
    assert "best.ckpt" not in str(caught.value)


def weights_of(run):
    return torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]


def test_added_augmentation_goes_on_bit_for_bit_within_an_epoch(tmp_path, stop_after):
    words = ["recipe.augment=randaugment", "recipe.random_erasing=0.5", "recipe.repeats=2", "recipe.batch_size=24"]
    whole, part = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "part")
    train(resolved(*words), whole)
    stop_after(part, 8, signal.SIGTERM, *words)  # of six steps an epoch
    train(part.read_config(), part)
    expected, found = weights_of(whole), weights_of(part)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert [row["train/loss"] for row in part.read_metrics()] == [row["train/loss"] for row in whole.read_metrics()]


def test_stopped_early_a_run_is_done_and_goes_on_where_more_epochs_are_asked_for(tmp_path):
    words = ["callbacks=early_stopping", "callbacks.early_stopping.patience=1", "+callbacks.early_stopping.min_delta=1"]
    run = RunDirectory(tmp_path / "run")
    train(resolved(*words, "trainer.max_epochs=9"), run)
    assert (run.read_summary()["status"], len(run.read_metrics())) == ("done", 2)
    train(resolved(*words, "trainer.max_epochs=12"), run)
    assert (run.read_summary()["status"], len(run.read_metrics())) == ("done", 3)
