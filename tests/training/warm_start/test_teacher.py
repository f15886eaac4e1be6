import pytest
import torch

from efficientconv.errors import UserError
from efficientconv.runs.directory import RunDirectory
from efficientconv.training.build import open_data
from efficientconv.training.warm_start.network import build_network
from efficientconv.training.warm_start.teacher import find_teacher, kept_teacher
from tests.training.conftest import resolved


def found(run, *overrides):
    config = resolved(*overrides)
    data = open_data(config["data"])
    return find_teacher(config, build_network(config, data), data, run), config, data


@pytest.mark.parametrize("source", ["original", "run"])
def test_a_teacher_is_kept_with_the_run_and_needs_nothing_else(plain, tmp_path, source):
    run = RunDirectory(tmp_path / "run")
    source = str(plain.path) if source == "run" else source
    teacher, config, data = found(run, f"teacher={source}", f"init_from={plain.path}")
    state = torch.load(plain.checkpoint("last"), weights_only=True)["state_dict"]
    plain.checkpoint("last").unlink()
    kept = kept_teacher(config, data, run)
    for model in (teacher, kept):
        assert all(torch.equal(value, state[f"model.{key}"]) for key, value in model.state_dict().items())


def test_without_a_teacher_there_is_none(tmp_path):
    run = RunDirectory(tmp_path / "run")
    teacher, config, data = found(run)
    assert teacher is None
    assert kept_teacher(config, data, run) is None
    assert not run.checkpoint("teacher").exists()


def test_refuses_an_original_without_weights(tmp_path, trained):
    for overrides in ([], [f"init_from={trained.path}"]):
        with pytest.raises(UserError, match="teacher=original: the network before the replacement has no weights"):
            found(RunDirectory(tmp_path / "run"), "teacher=original", *overrides)


def test_refuses_other_runs_other_classes_and_other_images(tmp_path, plain):
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(UserError, match="teacher=nowhere: there is no such run directory"):
        found(run, "teacher=nowhere")
    plain.update_summary(num_classes=7)
    with pytest.raises(UserError, match=r"teacher=.*plain: it knows 7 classes, this data has 10"):
        found(run, f"teacher={plain.path}")
    plain.update_summary(num_classes=10, class_names=[*"abcdefghij"])
    with pytest.raises(UserError, match=r"teacher=.*plain: the run was trained on other classes \(10\) than this data"):
        found(run, f"teacher={plain.path}")
    plain.update_summary(class_names=[str(digit) for digit in range(10)], normalization=None)
    with pytest.raises(
        UserError, match=r"it was trained on pixels as they are, these are of mean 0 .*recipe.normalize=false"
    ):
        found(run, f"teacher={plain.path}")
