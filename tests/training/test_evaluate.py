import pickle
import subprocess

import pytest
import torch
import yaml

from efficientconv.errors import UserError
from efficientconv.runs.directory import RunDirectory
from efficientconv.training.evaluate import evaluate
from efficientconv.training.train import train
from tests.training.conftest import resolved

pytestmark = pytest.mark.filterwarnings("ignore")  # what silence_lightning keeps from users
TRAINER = {"accelerator": "cpu", "devices": 1, "precision": "auto"}


def change_config(run, **values):
    run.write_config(run.read_config() | values)


def test_reports_the_accuracy_of_training_again(trained):
    found = evaluate(trained, TRAINER)
    last = trained.read_summary()["last"]
    assert found["top1"] == last["top1"]
    assert found["loss"] == pytest.approx(last["loss"], abs=1e-7)
    assert (found["weights"], found["note"]) == ("last", None)


def test_best_weights_say_that_they_were_chosen_on_the_test_set(trained):
    found = evaluate(trained, TRAINER, weights="best")
    assert found["top1"] == trained.read_summary()["best"]["top1"]
    assert "chosen on this same test set" in found["note"]


def test_averaged_weights_are_the_default_where_there_are_some(tmp_path):
    run = RunDirectory(tmp_path / "run")
    train(resolved("callbacks=ema"), run)
    averaged = evaluate(run, TRAINER)
    assert averaged["weights"] == "ema"
    assert averaged["top1"] == run.read_summary()["last"]["top1"]
    assert evaluate(run, TRAINER, weights="last")["loss"] != averaged["loss"]


def test_other_data_and_other_keys_of_the_same(trained):
    assert evaluate(trained, TRAINER, data={"eval_batch_size": 7})["top1"] == trained.read_summary()["last"]["top1"]
    digits = {"_target_": "efficientconv.datasets.Digits", "batch_size": "${recipe.batch_size}", "normalize": True}
    assert evaluate(trained, TRAINER, data=digits)["data"]["batch_size"] == 48


MISTAKES = {
    "data.rot": ({"data": {"rot": "/x"}}, "data.rot: the run's data has no such key; it has _target_, "),
    "weights": ({"weights": "newest"}, "weights=newest: must be one of last, best, ema"),
    "no ema": ({"weights": "ema"}, "was trained without callbacks=ema"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes(trained, arguments, message):
    with pytest.raises(UserError, match=message):
        evaluate(trained, TRAINER, **arguments)


def test_other_classes_are_refused(trained):
    trained.update_summary(num_classes=100)
    with pytest.raises(UserError, match="the run was trained on 100 classes, and this data has 10"):
        evaluate(trained, TRAINER)


def test_a_run_directory_of_another_model_is_refused(trained):
    change_config(trained, model=trained.read_config()["model"] | {"depth": 14})
    with pytest.raises(UserError, match=r"are not those of the network in its config\.yaml: Missing key"):
        evaluate(trained, TRAINER)


def test_a_checkpoint_that_is_cut_off_is_refused(trained):
    file = trained.checkpoint("last")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(UserError, match=r"last.ckpt is cut off, or holds more than tensors"):
        evaluate(trained, TRAINER)
    file.unlink()
    with pytest.raises(UserError, match=r"last.ckpt: there is no such checkpoint"):
        evaluate(trained, TRAINER)


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return subprocess.run, (["touch", str(self.marker)],)


@pytest.mark.parametrize("save", [torch.save, lambda content, file: file.write_bytes(pickle.dumps(content))])
def test_nothing_in_a_malicious_checkpoint_runs(trained, tmp_path, save):
    marker = tmp_path / "ran"
    save({"state_dict": {}, "callbacks": Malicious(marker)}, trained.checkpoint("last"))
    with pytest.raises(UserError, match="holds more than tensors and plain values, and was not loaded"):
        evaluate(trained, TRAINER)
    with pytest.raises(UserError, match="holds more than tensors and plain values, and was not loaded"):
        train(trained.read_config(), trained)
    assert not marker.exists()


SYSTEM = {"_target_": "os.system", "command": "touch ran"}


@pytest.mark.parametrize(
    ("group", "node"),
    [
        ("model", SYSTEM),
        ("model", {"_target_": "torch.load", "f": "x", "weights_only": False}),
        ("model", {"_target_": "torch.hub.load", "repo_or_dir": "x/y"}),
        ("conv", {"layer": SYSTEM, "where": None, "instead": None, "regularization_weight": 0.0}),
        ("data", SYSTEM),
        ("data", {"_target_": "efficientconv.datasets.Digits", "batch_size": SYSTEM}),
        ("model", {"_target_": "torch.nn.Identity", "width": "${oc.create:{_target_: os.system, command: touch ran}}"}),
        ("data", {"_target_": "efficientconv.datasets.Digits", "seed": "\\${oc.create:{_target_: os.system}}"}),
        ("recipe", {"batch_size": "${oc.env:HOME}"}),
        ("recipe", {"${oc.env:HOME}": 3}),
    ],
)
def test_a_stored_configuration_runs_nothing_of_a_strangers(trained, tmp_path, monkeypatch, group, node):
    monkeypatch.chdir(tmp_path)
    content = yaml.safe_load(trained.config_file.read_text()) | {group: node}
    trained.config_file.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=r"not run from a stored configuration|holds an interpolation, \${\.\.\.}"):
        evaluate(trained, TRAINER)
    assert not (tmp_path / "ran").exists()
