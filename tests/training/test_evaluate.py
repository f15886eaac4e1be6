import pathlib
import pickle
import subprocess

import pytest
import torch
import yaml
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from efficientconv.errors import UserError
from efficientconv.runs.directory import RunDirectory
from efficientconv.training.evaluate import evaluate
from efficientconv.training.train import train
from tests.training.conftest import composed, resolved

pytestmark = pytest.mark.filterwarnings("ignore")  # what silence_lightning keeps from users
TRAINER = {"accelerator": "cpu", "devices": 1, "precision": "auto"}


def change_config(run, **values):
    run.write_config(run.read_config() | values)


def test_reports_the_accuracy_of_training_again(trained):
    found = evaluate(trained, TRAINER)
    last = trained.read_summary()["last"]
    assert found["top1"] == last["top1"]
    assert found["loss"] == pytest.approx(last["loss"], rel=1e-6)  # in another memory format: float32 rounds otherwise
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


OTHER_CLASSES = {
    "others": ([*"012345678", "ten"], r"only the run has ten; only this data has 9"),
    "more": ([*"0123456789", *"abcdef"], r"\(16\) than this data has \(10\): only the run has a, b, c, d, e, …$"),
    "in another order": ([*"1023456789"], r"number 0 is 1 there and 0 here"),
}


@pytest.mark.parametrize(("names", "message"), OTHER_CLASSES.values(), ids=OTHER_CLASSES.keys())
def test_data_of_other_classes_is_refused(trained, names, message):
    assert trained.read_summary()["class_names"] == [*"0123456789"]
    trained.update_summary(class_names=names)
    with pytest.raises(UserError, match=f"the run was trained on other classes .*{message}"):
        evaluate(trained, TRAINER)


def test_the_test_images_suffice_and_are_normalized_as_the_run_was(tmp_path):
    """The run's own test images, in a folder without training images."""
    run = RunDirectory(tmp_path / "run")
    train(resolved("data.normalize=true", "trainer.max_epochs=1"), run)
    digits = instantiate(run.read_config()["data"], _convert_="all")
    digits.setup("fit")
    assert run.read_summary()["normalization"]["mean"] == pytest.approx(digits.normalization.mean)
    test = digits._splits.test
    for i, (image, label) in enumerate(zip(test.images, test.labels.tolist(), strict=True)):
        folder = tmp_path / "digits" / "val" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{i:04d}.png")
    size = f"data.image_size={digits.input_size[1]}"
    folder = composed("data=image_folder", f"data.root={tmp_path / 'digits'}", size, "data.normalize=true").data
    found = evaluate(run, TRAINER, data=OmegaConf.to_container(folder, resolve=False))
    assert found["loss"] == pytest.approx(run.read_summary()["last"]["loss"], rel=1e-5)  # batches of another size
    assert found["top1"] == run.read_summary()["last"]["top1"]


def test_a_run_directory_of_another_model_is_refused(trained):
    change_config(trained, model=trained.read_config()["model"] | {"depth": 14})
    with pytest.raises(UserError, match=r"are not those of the network in its config\.yaml: the weights lack"):
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
        ("conv", {"layer": SYSTEM, "where": None, "units": None, "regularization_weight": 0.0}),
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


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        (0, "trainer.devices=0: must be a whole number of at least 1"),
        ("x", "trainer.devices=x: must be a whole number of at least 1"),
    ],
)
def test_refuses_what_is_no_number_of_devices(trained, devices, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        evaluate(trained, TRAINER | {"devices": devices})


@pytest.mark.parametrize("changes", [{"devices": 2}, {"devices": "auto"}, {"num_nodes": 2}], ids=str)
def test_runs_on_one_device_and_says_so(trained, changes, caplog):
    caplog.set_level("INFO")
    figures = evaluate(trained, TRAINER | changes)
    assert figures["top1"] == trained.read_summary()["last"]["top1"]
    assert "evaluating on one device; more of them are for training" in caplog.text


def test_another_accelerator_than_there_is(trained):
    with pytest.raises(
        UserError, match=r"^trainer\.accelerator=tpu: there is no such device here; this machine has auto"
    ):
        evaluate(trained, TRAINER | {"accelerator": "tpu"})


def test_weights_of_another_depth_are_told_in_a_line(trained):
    config = trained.read_config()
    change_config(trained, model=config["model"] | {"depth": 20})
    with pytest.raises(
        UserError, match=r"are not those of the network in its config\.yaml: the weights lack "
    ) as caught:
        evaluate(trained, TRAINER)
    assert len(str(caught.value)) < 300
    assert " more" in str(caught.value)


def test_a_pickled_checkpoint_is_refused_without_advice_to_load_it(trained):
    file = trained.checkpoint("last")
    torch.save({"state_dict": {}, "object": pathlib.Path("a")}, file)
    with pytest.raises(UserError, match="more than tensors and plain values") as caught:
        evaluate(trained, TRAINER)
    assert "option" not in str(caught.value)
    assert "pathlib" in str(caught.value)
