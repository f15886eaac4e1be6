import os
import shutil
import socket

import pytest
from hydra.utils import instantiate

from efficientconv.errors import UserError
from efficientconv.runs.directory import RunDirectory
from efficientconv.training import job
from efficientconv.training.job import is_done, train_in_sweep, train_job
from efficientconv.training.train import train
from tests.training.conftest import composed, resolved

CHOICES = {"model": "cifar_resnet", "conv": "bsconv_u", "data": "digits"}


@pytest.fixture
def trainings(monkeypatch):
    """Record what would be trained, instead of training it."""
    calls = []
    monkeypatch.setattr(job, "train", lambda config, run, overrides: calls.append((config, run)) or 0.5)
    return calls


def start(path, *overrides, is_sweep=False, told=None):
    config = composed(*overrides)
    return train_job(config, str(path), CHOICES, told if told is not None else list(overrides), is_sweep)


def test_a_job_of_a_sweep_that_is_done_is_not_done_again(trained, trainings, caplog):
    caplog.set_level("INFO")
    best = trained.read_summary()["best"]["top1"]
    assert start(trained.path, is_sweep=True) == best
    assert trainings == []
    assert "is done already" in caplog.text


def test_what_is_done_is_done_whatever_has_changed_since_and_the_difference_is_told(trained, trainings, caplog):
    config = trained.read_config()
    del config["recipe"]["mixup"]  # a key of a later version
    trained.write_config(config)
    assert start(trained.path, is_sweep=True) is not None
    assert "was" not in caplog.text
    assert start(trained.path, "recipe.label_smoothing=0.2", is_sweep=True) is not None
    assert (
        "recipe.label_smoothing was 0.1 and is now 0.2; to train it as it is now, choose another sweep=" in caplog.text
    )
    assert trainings == []


def test_a_job_of_a_sweep_that_failed_goes_on(trained, trainings):
    trained.update_summary(status="failed")
    assert start(trained.path, is_sweep=True) == 0.5
    assert len(trainings) == 1


def test_an_unfinished_job_of_a_sweep_in_the_directory_of_another_run_is_refused(trained, trainings):
    trained.update_summary(status="failed")
    with pytest.raises(UserError, match=r"another configuration \(recipe.label_smoothing was 0.1 and is now 0.2\)"):
        start(trained.path, "recipe.label_smoothing=0.2", is_sweep=True)
    assert start(trained.path, "trainer.precision=bf16-mixed", "data.eval_batch_size=7", is_sweep=True) == 0.5
    ((config, _),) = trainings
    assert config["data"]["eval_batch_size"] == 7


def test_a_job_that_another_process_trains_is_left_to_it(trained, trainings, caplog):
    caplog.set_level("INFO")
    trained.update_summary(status="running")
    with trained.lock():
        assert start(trained.path, is_sweep=True) is None
    assert trainings == []
    assert f"process {os.getpid()} on {socket.gethostname()}" in caplog.text
    assert "this job is left to it" in caplog.text


def test_a_single_run_does_not_overwrite_another(trained, trainings):
    with pytest.raises(UserError, match="holds a run already; resume=true goes on with it"):
        start(trained.path, f"run={trained.path}")
    assert trainings == []


def test_resuming_keeps_the_stored_configuration_but_for_epochs_and_devices(trained, trainings):
    told = [f"run={trained.path}", "resume=true", "trainer.max_epochs=7", "trainer.precision=64-true"]
    start(trained.path, *told, "recipe.label_smoothing=0.9", told=told)  # as another default would be
    ((config, run),) = trainings
    assert run.path == trained.path
    assert config["trainer"] == trained.read_config()["trainer"] | {"max_epochs": 7, "precision": "64-true"}
    assert config["recipe"] == trained.read_config()["recipe"]


RESUMING = [
    ("data.eval_batch_size=7", ("data", "eval_batch_size"), 7),
    ("trainer.log_every_n_steps=3", ("trainer", "log_every_n_steps"), 3),
    ("callbacks.checkpoints.every_n_minutes=1", ("callbacks", "checkpoints", "every_n_minutes"), 1),
    ("trainer=ddp", ("trainer", "devices"), "auto"),
    ("++trainer.strategy=ddp", ("trainer", "strategy"), "ddp"),
    ("compile=true", ("compile",), True),
    ("logger=tensorboard", ("logger", "tensorboard", "_partial_"), True),
    ("seed=0", ("seed",), 0),  # as it was
]


@pytest.mark.parametrize(("override", "path", "value"), RESUMING, ids=[override for override, _, _ in RESUMING])
def test_resuming_takes_what_does_not_change_the_result(trained, trainings, override, path, value):
    trained.update_summary(status="interrupted")
    start(trained.path, f"run={trained.path}", "resume=true", override)
    ((config, _),) = trainings
    for name in path:
        config = config[name]
    assert config == value


OTHER_RESULTS = ["recipe.batch_size=3", "conv=standard", "seed=1", "trainer.limit_val_batches=2", "recipe=cosine_cifar"]


@pytest.mark.parametrize("override", OTHER_RESULTS)
def test_resuming_refuses_to_change_anything_else(trained, trainings, override):
    message = (
        rf"{override}: a resumed run keeps its configuration; only trainer\.max_epochs may change, and what does not"
    )
    with pytest.raises(UserError, match=message):
        start(trained.path, f"run={trained.path}", "resume=true", override)


@pytest.mark.parametrize("key", ["data.workers", "callbacks.ema.decay", "callbacks.checkpoints.every_n_steps.x"])
def test_resuming_refuses_keys_that_the_run_does_not_have(trained, trainings, key):
    with pytest.raises(UserError, match=rf"^{key.rpartition('.')[0]}.*: this run has no such key"):
        start(trained.path, f"run={trained.path}", "resume=true", f"++{key}=4")


def test_a_finished_run_is_said_to_be_finished_and_is_left_as_it_is(trained, trainings, caplog):
    caplog.set_level("INFO")
    before = {file: file.read_bytes() for file in trained.path.rglob("*") if file.is_file()}
    told = [f"run={trained.path}", "resume=true", "data.eval_batch_size=7"]
    best, last = (trained.read_summary()[name]["top1"] for name in ("best", "last"))
    assert start(trained.path, *told) == best
    assert f"is finished: 2 epochs, best top-1 {best:.2%}, last top-1 {last:.2%}; trainer.max_epochs=" in caplog.text
    assert trainings == []
    assert {file: file.read_bytes() for file in trained.path.rglob("*") if file.is_file()} == before
    assert start(trained.path, *told, "trainer.max_epochs=3") == 0.5
    assert "and goes on to 3 epochs" in caplog.text


@pytest.mark.parametrize("resume", [True, False])
def test_a_damaged_summary_is_written_again_from_the_checkpoint(trained, resume):
    before = trained.read_summary()
    (trained.path / "summary.json").write_text('{"status": "do')
    told = [f"run={trained.path}", "resume=true"] if resume else []
    assert start(trained.path, *told, is_sweep=not resume) == before["best"]["top1"]
    after = trained.read_summary()
    for name in ("status", "epochs", "best", "last", "train_images", "params", "class_names", "data_fingerprint"):
        assert after[name] == before[name]
    assert len(trained.read_metrics()) == 2


@pytest.mark.filterwarnings("ignore")
def test_a_finished_run_with_a_damaged_checkpoint_stays_done(trained):
    before, config = trained.read_summary(), trained.read_config()
    trained.checkpoint("last").write_bytes(b"damaged")
    told = [f"run={trained.path}", "resume=true"]
    assert start(trained.path, *told) == before["best"]["top1"]
    with pytest.raises(UserError, match=r"last\.ckpt is cut off"):
        start(trained.path, *told, "trainer.max_epochs=3")
    assert (trained.read_summary(), trained.read_config()) == (before, config)


def test_resuming_needs_a_run(tmp_path, trainings):
    with pytest.raises(UserError, match="resume=true needs the run directory"):
        start(tmp_path, "resume=true")
    with pytest.raises(UserError, match=r"is not a run directory: it has no config\.yaml"):
        start(tmp_path, "resume=true", f"run={tmp_path}")


def test_resuming_refuses_fewer_epochs_than_are_done(trained, trainings):
    told = [f"run={trained.path}", "resume=true", "trainer.max_epochs=1"]
    with pytest.raises(UserError, match=r"trainer\.max_epochs=1: 2 epochs of this run are done"):
        start(trained.path, *told)


def test_a_sweep_does_not_resume_single_runs(trained, trainings):
    with pytest.raises(UserError, match="resume=true goes on with one run"):
        start(trained.path, "resume=true", is_sweep=True)


def test_a_job_that_evaluated_nothing_is_done_too(trained, trainings):
    trained.update_summary(best={}, last={})
    assert start(trained.path, is_sweep=True) is None
    assert trainings == []


def test_resuming_does_not_run_a_strangers_target(trained, trainings):
    config = trained.read_config()
    config["callbacks"]["evil"] = {"_target_": "os.system", "command": "true"}
    trained.write_config(config)
    told = [f"run={trained.path}", "resume=true"]
    with pytest.raises(UserError, match=r"names 'os\.system'"):
        start(trained.path, *told)
    assert RunDirectory(trained.path).read_summary()["status"] == "done"


def pretrained(run, epochs):
    """Train a network of torchvision further than it is; say in its configuration that it began with weights.

    Loading them again would fail: torchvision's have 1,000 classes.
    """
    config = resolved("conv=standard", f"trainer.max_epochs={epochs}")
    config["model"] = {"_target_": "efficientconv.backbones.torchvision_model", "_partial_": True, "pretrained": False}
    config["model"] |= {"name": "shufflenet_v2_x0_5", "kwargs": {}}
    train(config, run, overrides=["model=torchvision", "model.pretrained=true"])
    config["model"]["pretrained"] = True
    run.write_config(config)
    return config


@pytest.mark.filterwarnings("ignore")
def test_what_began_with_pretrained_weights_goes_on_without_loading_them_and_still_says_so(tmp_path, caplog):
    caplog.set_level("INFO")
    run = RunDirectory(tmp_path / "run")
    config = pretrained(run, epochs=1)
    start(run.path, f"run={run.path}", "resume=true", "trainer.max_epochs=2")
    assert run.read_summary()["epochs"] == 2
    assert run.read_config()["model"] == config["model"]
    assert train_in_sweep(run.read_config(), run, []) == run.read_summary()["best"]["top1"]
    run.update_summary(status="failed")
    assert train_in_sweep(run.read_config(), run, []) is not None
    assert run.read_summary()["status"] == "done"
    assert run.read_config()["model"]["pretrained"] is True
    run.checkpoint("last").unlink()
    run.update_summary(status="interrupted")
    message = (
        r"begins with weights that resuming does not load \(model\.pretrained=True\): .*, python train\.py model=torchv"
    )
    with pytest.raises(UserError, match=message):
        start(run.path, f"run={run.path}", "resume=true")


def folder_run(root, path):
    """A finished run on a folder of images, as far as another job looks at it."""
    config = resolved("data=image_folder", f"data.root={root}", "recipe.batch_size=2")
    data = instantiate(config["data"], _convert_="all")
    run = RunDirectory(path)
    run.write_config(config)
    run.update_summary(status="done", epochs=2, best={"top1": 0.5}, data_fingerprint=data.fingerprint())
    return run, config


def moved(config, root, **changes):
    return config | {"data": config["data"] | {"root": str(root)} | changes}


def test_the_same_images_at_another_place_are_the_same_run_and_others_are_not(folder_of_photographs, tmp_path):
    run, config = folder_run(folder_of_photographs, tmp_path / "run")
    copy = tmp_path / "copy" / "photographs"
    shutil.copytree(folder_of_photographs, copy, copy_function=shutil.copyfile)  # with other times
    assert is_done(run, moved(config, copy, workers=1))
    next(copy.rglob("*.jpg")).unlink()
    message = rf"on other images \(data.root was {folder_of_photographs}, and the files in {copy} are not the same\)"
    with pytest.raises(UserError, match=message):
        is_done(run, moved(config, copy))
    with pytest.raises(UserError, match="there is no such folder"):
        is_done(run, moved(config, tmp_path / "nowhere"))


def test_a_run_on_a_folder_goes_on_with_another_loader_and_other_workers(folder_of_photographs, tmp_path, trainings):
    run, config = folder_run(folder_of_photographs, tmp_path / "run")
    run.write_config(moved(config, folder_of_photographs, image_size=64, loader="dali"))
    run.update_summary(status="interrupted")
    copy = tmp_path / "copy"
    shutil.copytree(folder_of_photographs, copy)
    anew = [f"++data.root={copy}", "++data.loader=torch", "++data.workers=0"]
    start(run.path, f"run={run.path}", "resume=true", *anew)
    ((asked, _),) = trainings
    assert asked["data"] == moved(config, copy, image_size=64, loader="torch", workers=0)["data"]
    with pytest.raises(UserError, match=r"data\.loader=memory: a resumed run keeps its configuration"):
        start(run.path, f"run={run.path}", "resume=true", "++data.loader=memory")
    next((copy / "train").rglob("*.jpg")).unlink()
    with pytest.raises(UserError, match="holds a run on other images"):
        start(run.path, f"run={run.path}", "resume=true", *anew)
