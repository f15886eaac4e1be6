import json

import pytest

from efficientconv.compose import create_model
from efficientconv.layers import BSConvU
from efficientconv.runs.directory import RunDirectory
from efficientconv.training.loggers import describe, finish, tensorboard_logger, wandb_logger


def report(num_classes=10):
    from efficientconv.backbones.cifar import cifar_resnet
    from efficientconv.compose import Where

    conv = {"layer": BSConvU, "where": Where(), "instead": None, "regularization_weight": 0.0}
    return create_model(lambda num_classes: cifar_resnet(num_classes, depth=8), conv, num_classes)[1]


def start(run, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    return wandb_logger(run, project="efficientconv", group="default", entity=None, offline=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_wandb_writes_offline_one_run_for_each_run_directory(tmp_path, monkeypatch):
    found = report()
    runs = []
    for name in ("first", "second"):
        logger = start(RunDirectory(tmp_path / name), monkeypatch)
        describe([logger], {"seed": 0, "model": {"depth": 8}}, found)
        logger.log_metrics({"val/top1": 0.5}, step=1)
        runs.append((logger.experiment.id, dict(logger.experiment.summary), dict(logger.experiment.config)))
        finish([logger], exit_code=0)
        assert list((tmp_path / name / "wandb").glob("offline-run-*/*.wandb"))
    (first, summary, config), (second, *_) = runs
    assert first != second
    assert summary["params"] == found.params_after
    assert summary["macs"] == found.macs_after
    assert config["model"] == {"depth": 8}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_writes_into_the_run_directory(tmp_path):
    logger = tensorboard_logger(RunDirectory(tmp_path))
    describe([logger], {"seed": 0}, report())
    logger.log_metrics({"val/top1": 0.5}, step=1)
    finish([logger], exit_code=0)
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))


def test_the_report_is_plain_data():
    assert json.loads(json.dumps(report().to_dict()))["replaced"]
