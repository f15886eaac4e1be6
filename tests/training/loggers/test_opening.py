"""W&B's offline file and TensorBoard's event file of one tiny run, read as their own programs read them."""

import struct
import sys
import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from efficientconv.errors import Interrupted, UserError
from efficientconv.runs.directory import RunDirectory
from efficientconv.training.checkpoints import Checkpoints
from efficientconv.training.loggers.mistakes import SHOWN
from efficientconv.training.loggers.opening import open_loggers, tensorboard_logger
from efficientconv.training.recorder import Recorder
from efficientconv.training.train import train
from tests.training.conftest import resolved

pytestmark = pytest.mark.filterwarnings("ignore")  # what silence_lightning keeps from users

SAVE = Checkpoints._save
BLOCK, FULL, LAST = 32768, 1, 4  # of the LevelDB log that W&B writes


class Replaced:
    """A report of nothing."""

    params_after, macs_after = 3, 4

    def to_dict(self):
        return {"replaced": []}


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")


def configuration(*overrides):
    return resolved("logger=wandb", "logger.wandb.offline=true", *overrides)


def wandb_records(run):
    """Read every record of a run that was not resumed."""
    (folder,) = offline_folders(run)
    return records_of(folder)


def records_of(folder):
    """Read every record of an offline file, which W&B's own process may still be writing."""
    deadline = time.monotonic() + 60
    while not (records := list(records_so_far(folder))) or not records[-1].HasField("exit"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return records


def offline_folders(run):
    return sorted((run.path / "wandb").glob("offline-run-*"))


def records_so_far(folder):
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.glob("*.wandb")
    content, place, whole = file.read_bytes(), 7, b""
    while place + 7 <= len(content):
        if BLOCK - place % BLOCK < 7:
            place += BLOCK - place % BLOCK
            continue
        length, kind = struct.unpack_from("<4xHB", content, place)
        if place + 7 + length > len(content):
            return
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (FULL, LAST):
            yield Record.FromString(whole)
            whole = b""


def name(item):
    return item.key or "/".join(item.nested_key)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A job of a sweep, logged to both."""
    folder = tmp_path_factory.mktemp("outputs") / "sweeps" / "first" / "seed-0"
    config = configuration("trainer.log_every_n_steps=2")
    config["logger"] |= resolved("logger=tensorboard")["logger"]
    train(config, RunDirectory(folder))
    return RunDirectory(folder)


def test_validation_reaches_wandb_once_an_epoch(run):
    history = [
        {name(item) for item in record.history.item} for record in wandb_records(run) if record.HasField("history")
    ]
    assert sum("val/top1" in row for row in history) == 2
    assert sum("step/loss" in row for row in history) == 3


def test_at_the_end_wandb_has_the_mistakes_and_the_replaced_convolutions(run):
    found = {name(item) for record in wandb_records(run) for item in record.history.item}
    shown = ("replaced", "test/confusion_table", "test/accuracy_by_class_table", "test/surest_mistakes")
    assert {f"{key}/_type" for key in shown} <= found
    pictures = (run.path / "wandb").glob("offline-run-*/files/media/images/test/surest_mistakes_*.png")
    assert len(list(pictures)) == SHOWN


def test_wandb_knows_the_name_the_tags_and_the_job_type(run):
    (told, *_) = [record.run for record in wandb_records(run) if record.HasField("run")]
    assert (told.display_name, told.job_type, told.notes) == ("cifar_resnet bsconv_u digits", "train", "")
    assert list(told.tags) == ["cifar_resnet", "bsconv_u", "digits"]


def test_wandb_knows_the_status_the_best_figures_and_the_sweep(run):
    records = wandb_records(run)
    found = {name(item): item.value_json for record in records for item in record.summary.update}
    assert found["status"] == '"done"'
    assert float(found["best/top1"]) == run.read_summary()["best"]["top1"]
    assert int(found["params"]) == run.read_summary()["params"]
    assert {record.run.run_group for record in records if record.HasField("run")} == {"first"}
    assert {"data", "recipe"} <= {name(item) for record in records for item in record.config.update}


def test_tensorboard_has_one_validation_an_epoch_and_the_best_beside_the_configuration(run):
    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    top1 = [float(row["val/top1"]) for row in run.read_metrics()]
    assert [event.value for event in events.Scalars("val/top1")] == pytest.approx(top1)
    assert [event.step for event in events.Scalars("val/top1")] == [3, 6]
    assert "hp_metric" not in events.Tags()["scalars"]
    assert [event.value for event in events.Scalars("best/top1")] == pytest.approx([max(top1)])
    assert "_hparams_/experiment" in events.SummaryMetadata.__self__.summary_metadata


def test_tensorboard_that_is_not_installed_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [])  # find_spec finds nothing that is not imported yet
    for module in [module for module in sys.modules if module.partition(".")[0] in ("tensorboard", "tensorboardX")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(UserError, match=r'not installed; pip install "efficientconv\[tensorboard\]"'):
        tensorboard_logger(RunDirectory(tmp_path))


@pytest.mark.parametrize(("error", "status"), [(Interrupted(2), '"interrupted"'), (OSError(), '"failed"')])
def test_a_single_run_has_no_group_and_its_bad_end_is_known(tmp_path, error, status):
    run, config = RunDirectory(tmp_path / "single"), configuration()
    run.write_config(config)
    with pytest.raises(type(error)), open_loggers(config, run, Replaced()):
        raise error
    records = wandb_records(run)
    assert {record.run.run_group for record in records if record.HasField("run")} == {""}
    assert [item.value_json for record in records for item in record.summary.update if name(item) == "status"] == [
        status
    ]


@pytest.fixture
def killed_and_resumed(tmp_path, monkeypatch):
    """A run that stops without a word behind its last checkpoint, behind step 6 of 6, and goes on from step 3."""
    monkeypatch.setattr(Checkpoints, "_save", save_in_first_epoch_alone)
    run, config = RunDirectory(tmp_path / "run"), configuration("trainer.log_every_n_steps=1")
    config["logger"] |= resolved("logger=tensorboard")["logger"]
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "on_validation_start", fail_in_second_epoch)
        with pytest.raises(ArithmeticError):
            train(config, run)
    train(run.read_config(), run)
    return run


def save_in_first_epoch_alone(self, trainer, name):
    if trainer.current_epoch == 0 or trainer.global_step == 6:
        SAVE(self, trainer, name)


def fail_in_second_epoch(self, trainer, module):
    if trainer.current_epoch == 1:
        raise ArithmeticError("as the test wants it")


def test_a_resumed_run_logs_nothing_twice(killed_and_resumed):
    run = killed_and_resumed
    records = [record for folder in offline_folders(run) for record in records_of(folder)]
    rows = [{name(item): item.value_json for item in record.history.item} for record in records]
    logged = {
        "step/loss": [1, 2, 3, 4, 5, 6],
        "val/top1": [3, 6],
        "replaced/_type": [0],
        "test/confusion_table/_type": [6],
    }
    for metric, steps in logged.items():
        assert [int(row["trainer/global_step"]) for row in rows if metric in row] == steps
    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("step/loss")] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in events.Scalars("val/top1")] == [3, 6]
