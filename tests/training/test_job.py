import pytest

from efficientconv.errors import UserError
from efficientconv.runs.directory import RunDirectory
from efficientconv.training import job
from efficientconv.training.job import train_job
from tests.training.conftest import composed

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


def test_a_job_of_a_sweep_that_failed_goes_on(trained, trainings):
    trained.update_summary(status="failed")
    assert start(trained.path, is_sweep=True) == 0.5
    assert len(trainings) == 1


def test_a_job_of_a_sweep_in_the_directory_of_another_run_is_refused(trained, trainings):
    with pytest.raises(UserError, match=r"another configuration \(recipe.label_smoothing was 0.0 and is now 0.1\)"):
        start(trained.path, "recipe.label_smoothing=0.1", is_sweep=True)
    assert start(trained.path, "trainer.precision=bf16-mixed", is_sweep=True) is not None


def test_a_single_run_does_not_overwrite_another(trained, trainings):
    with pytest.raises(UserError, match="holds a run already; resume=true goes on with it"):
        start(trained.path, f"run={trained.path}")
    assert trainings == []


def test_resuming_keeps_the_stored_configuration_but_for_epochs_and_devices(trained, trainings):
    told = [f"run={trained.path}", "resume=true", "trainer.max_epochs=7", "trainer.precision=64-true"]
    start(trained.path, *told, "recipe.label_smoothing=0.9", told=told)
    ((config, run),) = trainings
    assert run.path == trained.path
    assert config["trainer"] == trained.read_config()["trainer"] | {"max_epochs": 7, "precision": "64-true"}
    assert config["recipe"] == trained.read_config()["recipe"]


@pytest.mark.parametrize("override", ["recipe.batch_size=3", "conv=standard", "seed=1", "trainer.limit_val_batches=2"])
def test_resuming_refuses_to_change_anything_else(trained, trainings, override):
    told = [f"run={trained.path}", "resume=true", override]
    with pytest.raises(UserError, match=r"a resumed run keeps its configuration; only trainer\.max_epochs, trainer"):
        start(trained.path, f"run={trained.path}", "resume=true", told=told)


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
