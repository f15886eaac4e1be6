from concurrent.futures.process import BrokenProcessPool

import pytest
from omegaconf import OmegaConf

from efficientconv.errors import UserError
from efficientconv.sweeps import engines
from efficientconv.sweeps.engines import is_death, jobs_at_once, open_engine, require_installed
from tests.training.conftest import composed


def sweep(*overrides):
    """Return a sweep's configuration, as a launcher is given it, as far as an engine looks at it."""
    config = composed(*overrides)
    choices = {"launcher": next(word for word in overrides if word.startswith("launcher=")).partition("=")[2]}
    OmegaConf.set_struct(config, False)
    return OmegaConf.merge(config, {"hydra": {"runtime": {"choices": choices}}})


@pytest.mark.parametrize(
    ("launcher", "extra"), [("joblib", "joblib"), ("submitit", "submitit"), ("slurm", "submitit"), ("ray", "ray")]
)
def test_a_launcher_that_is_not_installed_names_its_extra(launcher, extra, monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        open_engine(sweep(f"launcher={launcher}"), hydra_context=None, task_function=None)
    assert str(caught.value) == (
        f'launcher={launcher}: its package is not installed; pip install "efficientconv[{extra}]" brings it'
    )


def test_nothing_is_needed_for_a_launcher_of_ones_own():
    require_installed("launcher", "mine", "my_launcher")


def test_slurm_needs_sbatch(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: name)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"^launcher=slurm: there is no sbatch here; give the line on a machine that"):
        open_engine(sweep("launcher=slurm"), hydra_context=None, task_function=None)


@pytest.mark.parametrize(
    ("gpus", "words", "count"),
    [
        ("0,1,2", [], 3),
        ("0,1,2", ["launcher.jobs_per_gpu=2"], 6),
        ("0,1,2", ["launcher.n_jobs=2"], 2),
        ("", [], 4),
        ("", ["launcher.n_jobs=9"], 9),
        ("0,1,2", ["trainer.accelerator=cpu"], 4),
    ],
)
def test_as_many_jobs_at_a_time_as_there_are_gpus_or_cores(gpus, words, count, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    monkeypatch.setattr(engines, "cpu_cores", lambda: 4)
    config = sweep("launcher=joblib", "trainer.accelerator=auto", *words)
    assert jobs_at_once(config, OmegaConf.to_container(config.launcher)) == count


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["launcher.n_jobs=4"], r"launcher\.n_jobs=4: there are 3 GPUs, and launcher\.jobs_per_gpu=1; launcher\.jobs_"),
        (
            ["trainer.devices=2"],
            r"trainer\.devices=2: launcher=joblib gives each job one GPU; launcher=local trains one",
        ),
        (["launcher.n_jobs=0"], r"launcher\.n_jobs=0: must be a whole number of at least 1"),
        (["launcher.jobs_per_gpu=half"], r"launcher\.jobs_per_gpu=half: must be a whole number of at least 1"),
    ],
)
def test_refuses_numbers_of_jobs(words, message, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    config = sweep("launcher=joblib", "trainer.accelerator=auto", *words)
    with pytest.raises(UserError, match=f"^{message}"):
        jobs_at_once(config, OmegaConf.to_container(config.launcher))


def test_an_engine_that_starts_all_jobs_is_given_them_in_batches():
    class All:
        calls = []

        def launch(self, jobs, first):
            self.calls.append((list(jobs), first))

    engines._in_batches(All(), 2)([["a"], ["b"], ["c"]], 7)
    assert All.calls == [([["a"], ["b"]], 7), ([["c"]], 9)]


def test_a_ray_cluster_that_is_not_there():
    class Unreachable:
        def launch(self, jobs, first):
            raise ConnectionError("Could not find any running Ray instance. Please specify one")

    with pytest.raises(UserError) as caught:
        engines._on_ray(Unreachable(), "auto")([["a"]], 0)
    assert str(caught.value) == (
        "launcher.ray.init.address=auto: no Ray cluster answers there (Could not find any running Ray instance); "
        "`ray start --head` begins one, and launcher.ray.init.address=null one for this sweep alone"
    )


def test_deaths_of_processes():
    assert is_death(BrokenProcessPool())
    assert not is_death(ValueError())
