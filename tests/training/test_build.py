"""Lightning's own callbacks and bar in a run of this project, its first epoch and the one after a restart."""

import json

import pytest
import torch

from efficientconv.runs.directory import RunDirectory
from efficientconv.training.build import build_callbacks, build_trainer
from efficientconv.training.memory_format import use_channels_last
from efficientconv.training.recorder import Recorder
from efficientconv.training.stopping import StopRequest
from efficientconv.training.train import train
from tests.training.conftest import resolved

pytestmark = pytest.mark.filterwarnings("ignore")  # what silence_lightning keeps from users

OF_LIGHTNING = {
    "early": {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "monitor": "val/top1", "mode": "max"},
    "kept": {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", "monitor": "val/loss", "filename": "lowest"},
    "rates": {"_target_": "lightning.pytorch.callbacks.LearningRateMonitor", "logging_interval": "step"},
    "bar": {"_target_": "lightning.pytorch.callbacks.RichProgressBar"},
}


def test_callbacks_of_lightning_work_and_go_on(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    run = RunDirectory(tmp_path / "run")
    config = resolved("logger=tensorboard", "trainer.max_epochs=1")
    config["callbacks"] |= {name: node | {"_convert_": "all"} for name, node in OF_LIGHTNING.items()}
    train(config, run)
    assert "Epoch 0/0" in capfd.readouterr().out
    (lowest,) = run.path.rglob("lowest.ckpt")
    assert torch.load(lowest, weights_only=True)["epoch"] == 0
    config["trainer"]["max_epochs"] = 2
    train(config, run)
    state = torch.load(run.checkpoint("last"), weights_only=True)["callbacks"]
    (early,) = (value for name, value in state.items() if name.startswith("EarlyStopping"))
    assert float(early["best_score"]) == pytest.approx(run.read_summary()["best"]["top1"])
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


def line_of(run, *overrides, **callbacks):
    config = resolved(*overrides)
    config["callbacks"] |= callbacks
    with StopRequest() as stop:
        built = build_callbacks(config, RunDirectory(run), stop, Recorder(RunDirectory(run)))
    trainer = build_trainer(config, built, loggers=[])
    (monitor,) = (each for each in built if type(each).__name__ == "Monitor")
    return monitor.line, trainer.progress_bar_callback


def test_one_bar_at_a_time(tmp_path):
    line, bar = line_of(tmp_path)
    assert (line is None, bar) == (False, None)
    line, bar = line_of(tmp_path, "trainer.enable_progress_bar=true")
    assert (line, bar is None) == (None, False)
    line, bar = line_of(tmp_path, bar=OF_LIGHTNING["bar"])
    assert (line, type(bar).__name__) == (None, "RichProgressBar")


def conv(name):
    return {"layer": {"_target_": f"efficientconv.layers.{name}"} if name else None}


@pytest.mark.parametrize(
    ("wanted", "name", "on_cuda", "expected"),
    [
        ("auto", None, False, True),
        ("auto", "BSConvU", False, True),
        ("auto", "CondConv2d", False, False),
        ("auto", "SCConv2d", True, True),
        (True, "SCConv2d", False, True),
        (False, None, True, False),
    ],
)
def test_channels_last_unless_it_is_slower(wanted, name, on_cuda, expected):
    assert use_channels_last(wanted, conv(name), on_cuda) is expected


def test_a_run_stores_the_memory_format_that_it_was_trained_with(trained):
    assert trained.read_config()["channels_last"] is True
    assert json.loads((trained.path / "replaced.json").read_text())["replaced"]
