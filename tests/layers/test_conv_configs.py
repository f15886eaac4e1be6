"""Every file in ``configs/conv`` has the four keys and makes layers of the package."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from efficientconv.layers import ConvVariant

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "conv").glob("*.yaml"))
PARTS = [
    pytest.param(config, part, id=f"{config.stem}-{part}")
    for config in CONFIGS
    for part in ("layer", "depthwise_separable", "projection")
    if part in {**(OmegaConf.load(config).instead or {}), "layer": None} and OmegaConf.load(config).layer
]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_has_the_four_keys_and_a_header(path):
    config = OmegaConf.load(path)
    assert list(config) == ["layer", "where", "instead", "regularization_weight"]
    assert config.regularization_weight >= 0
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize(("path", "part"), PARTS)
def test_makes_a_layer(path, part):
    config = OmegaConf.load(path)
    make = instantiate({**(config.instead or {}), "layer": config.layer}[part], _convert_="all")
    kernel_size, padding = (1, 0) if part == "projection" else (3, 1)
    layer = make(32, 32, kernel_size, padding=padding)
    assert isinstance(layer, ConvVariant)
    assert isinstance(layer, nn.Module)


@pytest.mark.parametrize(("path", "part"), PARTS)
def test_names_every_hyper_parameter_so_that_each_can_be_overridden(path, part):
    config = OmegaConf.load(path)
    node = {**(config.instead or {}), "layer": config.layer}[part]
    parameters = inspect.signature(instantiate(node, _convert_="all").func).parameters.values()
    extras = {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
    assert set(node) == {"_target_", "_partial_"} | extras


@pytest.mark.parametrize("path", [path for path in CONFIGS if OmegaConf.load(path).where], ids=lambda path: path.stem)
def test_where_names_every_field(path):
    keys = set(OmegaConf.load(path).where)
    assert keys == {"_target_", "kernel_sizes", "groups", "stem", "min_channels", "include", "exclude"}


def test_standard_replaces_nothing():
    config = OmegaConf.load(next(path for path in CONFIGS if path.stem == "standard"))
    assert config == {"layer": None, "where": None, "instead": None, "regularization_weight": 0.0}
