"""A tiny network on a few digits: trained once for each worker; tests that change its directory copy it."""

import shutil
from functools import cache
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from torch import nn

from efficientconv.config_path import CONFIGS
from efficientconv.runs.directory import RunDirectory


@pytest.fixture
def own_run(finished_run, tmp_path) -> RunDirectory:
    """Return a copy of the finished run that the test may change."""
    return RunDirectory(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.fixture(scope="session")
def photographs(tmp_path_factory) -> Path:
    """Return a folder of three images of different sizes, in two folders."""
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "below").mkdir()
    generator = torch.Generator().manual_seed(0)
    for name, size in {"a.png": (32, 32), "b.jpg": (40, 70), "below/c.png": (51, 33)}.items():
        pixels = torch.randint(0, 256, (*size, 3), dtype=torch.uint8, generator=generator)
        Image.fromarray(pixels.numpy()).save(folder / name)
    return folder


def with_random_norms(model: nn.Module) -> nn.Module:
    """Give every batch norm statistics that a trained one could have: fresh ones would hide a norm folded wrongly."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in ((module.running_mean, -0.3, 0.3), (module.running_var, 0.5, 1.5)):
                tensor.uniform_(low, high, generator=generator)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
                nn.init.uniform_(module.bias, -0.3, 0.3, generator=generator)
    return model


@cache
def conv_config(name: str) -> dict:
    """Build the catalogue's convolution of that name."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return instantiate(compose("train", [f"conv={name}"]).conv, _convert_="all")


@cache
def _composed(tool: str):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(tool)


def tool_config(name: str, *values: str) -> dict:
    """Compose the root configuration of a tool with other values, resolved."""
    given = OmegaConf.from_dotlist(list(values))
    config = OmegaConf.to_container(OmegaConf.merge(_composed(name), given), resolve=True)
    return config | ({"data": None} if name == "export" else {})
