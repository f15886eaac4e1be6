import json

import pytest
import torch
from lightning.pytorch import Callback

from efficientconv.errors import UserError
from efficientconv.runs.directory import RunDirectory
from efficientconv.training.train import train
from tests.training.conftest import resolved

pytestmark = pytest.mark.filterwarnings("ignore")  # what silence_lightning keeps from users


def test_a_run_directory_holds_what_later_tools_read(trained):
    summary = trained.read_summary()
    assert summary["status"] == "done"
    assert summary["error"] is None
    assert (summary["epochs"], summary["seed"], summary["num_classes"], summary["evaluated_on"]) == (2, 0, 10, "test")
    assert 0 <= summary["last"]["top1"] <= summary["best"]["top1"] <= summary["best"]["top5"] <= 1
    assert summary["train_images"] == 2 * 143
    assert summary["images_per_second"] > 0
    assert summary["wall_seconds"] > summary["train_seconds"] > 0
    assert summary["peak_memory_bytes"] > 1e7
    assert {"python", "torch", "lightning"} <= summary["versions"].keys()
    rows = trained.read_metrics()
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[-1]["val/top1"]) == summary["last"]["top1"]
    report = json.loads((trained.path / "replaced.json").read_text())
    assert len(report["replaced"]) == 7
    assert summary["params"] == report["params_after"]
    assert trained.read_config()["choices"]["conv"] == "bsconv_u"


def test_checkpoints_are_data(trained):
    for name in ("last", "best"):
        checkpoint = torch.load(trained.checkpoint(name), weights_only=True)
        assert not any("_orig_mod" in key for key in checkpoint["state_dict"])


def test_one_seed_gives_one_set_of_weights_and_zero_is_a_seed(trained, tmp_path):
    found = {}
    for seed in (0, 1):
        run = RunDirectory(tmp_path / str(seed))
        train(resolved(f"seed={seed}"), run)
        found[seed] = torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]
    again = torch.load(trained.checkpoint("last"), weights_only=True)["state_dict"]
    assert all(torch.equal(again[name], found[0][name]) for name in again)
    assert not all(torch.equal(again[name], found[1][name]) for name in again)


def test_with_a_validation_split_the_test_set_is_seen_once_at_the_end(tmp_path):
    run = RunDirectory(tmp_path / "run")
    train(resolved("data.train_fraction=0.3", "data.val_split=0.5", "trainer.max_epochs=1"), run)
    summary = run.read_summary()
    assert summary["evaluated_on"] == "validation"
    assert summary["test"].keys() == {"loss", "top1", "top5"}


def test_epochs_without_an_evaluation_leave_its_columns_empty(tmp_path):
    run = RunDirectory(tmp_path / "run")
    train(resolved("+trainer.check_val_every_n_epoch=2", "trainer.max_epochs=3"), run)
    rows = run.read_metrics()
    assert [bool(row["val/top1"]) for row in rows] == [False, True, False]
    assert all(float(row["images_per_second"]) > 0 for row in rows)
    assert run.read_summary()["last"]["epoch"] == 2


@pytest.mark.parametrize("overrides", [["recipe=cosine_cifar", "channels_last=true"], ["callbacks=ema"]])
def test_other_settings_train(tmp_path, overrides):
    run = RunDirectory(tmp_path / "run")
    train(resolved(*overrides), run)
    assert run.read_summary()["status"] == "done"


def test_penalties_are_recorded_on_their_own(tmp_path):
    run = RunDirectory(tmp_path / "run")
    train(resolved("conv=bsconv_s", "conv.layer.min_mid_channels=2"), run)
    assert all(float(row["train/penalty"]) > 0 for row in run.read_metrics())


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    run = RunDirectory(tmp_path / "run")
    config = resolved("trainer.max_epochs=4")
    config["callbacks"]["poison"] = {"_target_": f"{__name__}.Poison", "epoch": 1, "batch": 1}
    with pytest.raises(UserError, match="the loss is not a finite number at step 2 of epoch 2; the last good"):
        train(config, run)
    assert run.read_summary()["status"] == "failed"
    assert run.read_summary()["error"].startswith("the loss is not a finite number")
    good = torch.load(run.checkpoint("last"), weights_only=True)
    assert good["global_step"] == 3
    assert all(torch.isfinite(value).all() for value in good["state_dict"].values())


def test_a_resume_that_fails_before_it_begins_changes_nothing(trained):
    before, summary = trained.read_config(), trained.read_summary()
    wrong = before | {"trainer": before["trainer"] | {"max_epochs": 3, "precision": "17-true"}}
    with pytest.raises(ValueError, match="17-true"):
        train(wrong, trained)
    assert trained.read_config() == before
    assert trained.read_summary()["status"] == summary["status"] == "done"


class Poison(Callback):
    """Makes the weights infinite before one step."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.epoch, self.batch = epoch, batch

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        if (trainer.current_epoch, batch_idx) == (self.epoch, self.batch):
            next(iter(module.model.parameters())).data.fill_(float("inf"))


def test_a_disk_that_is_full_is_named_and_nothing_finished_is_lost(tmp_path, monkeypatch):
    from lightning.pytorch import Trainer

    run = RunDirectory(tmp_path / "run")
    train(resolved("trainer.max_epochs=1"), run)
    run.update_summary(status="interrupted")
    before = run.checkpoint("last").read_bytes()

    def full(self, path, *args, **kwargs):
        path.write_bytes(b"half a checkpoint")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Trainer, "save_checkpoint", full)
    with pytest.raises(OSError, match="No space left on device"):
        train(run.read_config() | {"trainer": run.read_config()["trainer"] | {"max_epochs": 2}}, run)
    assert run.checkpoint("last").read_bytes() == before
    assert {file.name for file in run.checkpoint("last").parent.iterdir()} == {"last.ckpt", "best.ckpt"}
    assert run.read_summary()["status"] == "failed"
    assert "No space left on device" in run.read_summary()["error"]
