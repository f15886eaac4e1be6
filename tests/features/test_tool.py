"""``efficientconv features`` on a trained run: numbers, the picture, and what it refuses."""

import shutil

import pytest
import torch
from torch.nn import functional as F

from efficientconv.deploy.trained import TrainedRun
from efficientconv.errors import UserError
from efficientconv.features.maps import read_maps
from efficientconv.features.tool import features
from efficientconv.runs.directory import RunDirectory
from tests.deploy.conftest import tool_config

pytestmark = pytest.mark.filterwarnings("ignore")  # what silence_lightning keeps from users


@pytest.fixture
def trained(finished_run, tmp_path):
    return RunDirectory(shutil.copytree(finished_run, tmp_path / "run"))


def config(*runs, **settings):
    return tool_config("features", f"run=[{','.join(map(str, runs))}]", "images=5") | settings


def test_the_maps_are_those_of_the_trained_network(trained):
    found = read_maps(TrainedRun(trained.path), "net", None, images=5, weights=None)
    assert found.stage == "stages.0"
    network, _ = TrainedRun(trained.path).network()
    with torch.inference_mode():
        expected = network.stages[0](network.stem(network.data_norm(found.images)))
    assert torch.equal(found.maps, expected)
    assert found.maps.shape == (5, 4, 14, 14)


def test_two_runs_are_compared_in_numbers_and_in_a_picture(trained, tmp_path, capsys):
    first, second = features(config(trained.path, trained.path, save=str(tmp_path / "a.png"), stage="stages.1"))
    maps = read_maps(TrainedRun(trained.path), "net", "stages.1", 5, None).maps.flatten(2)
    pairs = [(maps[:, i], maps[:, j]) for i in range(8) for j in range(i + 1, 8)]
    alive = torch.cat([(one.amax(1) > 0) & (other.amax(1) > 0) for one, other in pairs])
    cosines = torch.cat([F.cosine_similarity(one, other, dim=1) for one, other in pairs])[alive]
    assert first.mean == second.mean == pytest.approx(cosines.mean().item(), abs=1e-5)
    told = capsys.readouterr().out
    assert told.count(f"{first.mean:.4f}") == 2
    assert told.splitlines()[-1] == str(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"stage": "stages.7"},
            "stage=stages.7: cifar_resnet bsconv_u has no stage of that name; nearest first: stages.2",
        ),
        ({"stage": "pool"}, "stage=pool: in cifar_resnet bsconv_u this gives no feature maps"),
        ({"image": 5}, "image=5: there are 5 images, numbered from 0; images= says how many"),
        ({"image": -1}, "image=-1: must be a whole number of at least 0"),
        ({"run": []}, "run is empty: give one run directory, or several with commas"),
        ({"run": ["nowhere"]}, "nowhere is not a run directory: it has no config.yaml"),
    ],
    ids=str,
)
def test_what_cannot_be_is_one_line(settings, message, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refused:
        features(config(trained.path) | settings)
    assert message in str(refused.value)
    assert not (tmp_path / "features.png").exists()
