"""A tiny network on a few digits, and a copy of its finished run for each test."""

import copy
import shutil
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from efficientconv.config_path import CONFIGS

TINY = [
    "model=cifar_resnet",
    "model.depth=8",
    "model.width=0.25",
    "conv=bsconv_u",
    "data=digits",
    "data.train_fraction=0.1",
    "recipe.batch_size=48",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
]


@cache
def _composed(*overrides: str):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", overrides=[*TINY, *overrides])


def composed(*overrides: str):
    """Compose the root configuration of training for the tiny run, to change at will."""
    return copy.deepcopy(_composed(*overrides))


def resolved(*overrides: str) -> dict:
    """Compose and resolve it, as a job hands it to ``train``."""
    config = OmegaConf.to_container(composed(*overrides), resolve=True)
    return {**config, "choices": {"model": "cifar_resnet", "conv": "bsconv_u", "data": "digits"}}


@pytest.fixture
def trained(finished_run, tmp_path):
    """Return a finished run directory that the test may change."""
    from efficientconv.runs.directory import RunDirectory

    return RunDirectory(shutil.copytree(finished_run, tmp_path / "tiny"))


@pytest.fixture(scope="session")
def _plain(tmp_path_factory) -> Path:
    from efficientconv.runs.directory import RunDirectory
    from efficientconv.training.train import train

    path = tmp_path_factory.mktemp("runs") / "plain"
    train(resolved("conv=standard"), RunDirectory(path), overrides=[*TINY, "conv=standard"])
    return path


@pytest.fixture
def plain(_plain, tmp_path):
    """Return a finished run directory of the plain network, which the test may change."""
    from efficientconv.runs.directory import RunDirectory

    return RunDirectory(shutil.copytree(_plain, tmp_path / "plain"))
