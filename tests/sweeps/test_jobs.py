"""Which jobs a sweep has, and what is known of them: with Hydra's own composing, whose calls are counted."""

import json

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf.errors import MissingMandatoryValue

from efficientconv.config_path import CONFIGS
from efficientconv.runs.names import register_resolvers
from efficientconv.sweeps.jobs import Job, SweepDirectory, labels, mark_of
from tests.training.conftest import TINY


@pytest.fixture
def compose():
    """Return what composes a job, and counts how often it did, in ``calls``."""
    register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        sweep = hydra.compose_config("train", [], run_mode=RunMode.MULTIRUN)

        def composed(words):
            composed.calls += 1
            return hydra.config_loader.load_sweep_config(sweep, words)

        composed.calls = 0
        yield composed


def jobs_of(sweep, compose, *own, mark="1", seeds=(0, 1)):
    return SweepDirectory(sweep).jobs([[*TINY, *own, f"seed={seed}"] for seed in seeds], compose, mark)


def names(*groups):
    return [[job.name for job in jobs] for jobs in groups]


@pytest.fixture
def one_done(sweep, compose, write_run):
    """Return the two jobs of a sweep, of which the first is done."""
    found, _ = jobs_of(sweep, compose)
    config = found[0].run
    write_run("seed-0", "done").path.rename(config.path)
    return found


def test_what_is_done_is_known_without_composing_it_again(sweep, compose, one_done):
    assert names(*jobs_of(sweep, compose)) == names(one_done, one_done[1:])
    assert names(*jobs_of(sweep, compose, "launcher=joblib", "launcher.n_jobs=4")) == names(one_done, one_done[1:])
    assert compose.calls == 2
    assert [job.name for job in SweepDirectory(sweep).known()] == [job.name for job in one_done]


def test_other_configuration_files_may_make_another_job(sweep, compose, one_done):
    assert names(*jobs_of(sweep, compose, mark="2")) == names(one_done, one_done[1:])
    assert compose.calls == 4


def test_a_job_done_otherwise_is_done_and_the_difference_is_remembered(sweep, compose, one_done):
    config = one_done[0].run.read_config()
    one_done[0].run.write_config(config | {"recipe": config["recipe"] | {"label_smoothing": 0.3}})
    for calls in (4, 4):
        found, left = jobs_of(sweep, compose, mark="2")
        assert left == found[1:]
        assert found[0].difference.startswith("recipe.label_smoothing was 0.3 and is now ")
        assert compose.calls == calls


def test_an_unfinished_job_of_another_run_is_left_and_looked_at_again(sweep, compose, one_done):
    config = one_done[0].run.read_config()
    one_done[0].run.write_config(config | {"recipe": config["recipe"] | {"label_smoothing": 0.3}})
    one_done[0].run.update_summary(status="failed")
    assert [len(each) for each in jobs_of(sweep, compose, mark="2")] == [2, 2]
    one_done[0].run.write_config(config)
    one_done[0].run.update_summary(status="done")
    assert [len(each) for each in jobs_of(sweep, compose, mark="2")] == [2, 1]


def test_two_lines_of_one_sweep_add_up(sweep, compose):
    one, other = SweepDirectory(sweep), SweepDirectory(sweep)
    for directory, seed in ((one, 0), (other, 1)):
        directory.jobs([[*TINY, f"seed={seed}"]], compose, "1")
    assert len(SweepDirectory(sweep).known()) == 2


def test_a_damaged_list_is_written_anew(sweep, compose):
    (sweep / "jobs.json").write_text('{"seed-0": ')
    jobs_of(sweep, compose)
    assert len(json.loads((sweep / "jobs.json").read_text())) == 2


def test_a_value_that_is_missing_is_said_before_any_job_begins(sweep, compose):
    with pytest.raises(MissingMandatoryValue, match="name"):
        SweepDirectory(sweep).jobs([["model=timm"]], compose, "1")


def test_the_mark_is_of_the_content_of_the_files(tmp_path):
    options = tmp_path / "one" / "conv"
    options.mkdir(parents=True)
    marks = []
    for text in ("layer: null", "layer: null", "layer: {}"):
        (options / "mine.yaml").write_text(text)
        with initialize_config_dir(str(tmp_path / "one"), version_base="1.3"):
            marks.append(mark_of(GlobalHydra.instance().config_loader()))
    assert marks[0] == marks[1] != marks[2]


def test_labels_are_what_tells_jobs_apart(tmp_path):
    jobs = [
        Job(("conv=spconv", f"seed={seed}", "sweep=a"), SweepDirectory(tmp_path)._job((), "x" * seed).run)
        for seed in (1, 2)
    ]
    assert list(labels(jobs).values()) == ["seed=1", "seed=2"]
    assert list(labels(jobs, ["sweep=a"]).values()) == ["conv=spconv seed=1", "conv=spconv seed=2"]
    assert list(labels(jobs[:1]).values()) == ["x"]
