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


def layer_nodes(path: Path) -> dict:
    """Give the nodes of a file that make a layer, by unit: ``layer``, ``depthwise_separable``, ``projection``."""
    config = OmegaConf.load(path)
    return {unit: node for unit, node in {"layer": config.layer, **(config.units or {})}.items() if node}


PARTS = [pytest.param(path, unit, id=f"{path.stem}-{unit}") for path in CONFIGS for unit in layer_nodes(path)]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_has_the_four_keys_and_a_header(path):
    config = OmegaConf.load(path)
    assert list(config) == ["layer", "where", "units", "regularization_weight"]
    assert config.regularization_weight >= 0
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize(("path", "unit"), PARTS)
def test_makes_a_layer(path, unit):
    make = instantiate(layer_nodes(path)[unit], _convert_="all")
    kernel_size, padding = (1, 0) if unit == "projection" else (3, 1)
    layer = make(32, 32, kernel_size, padding=padding)
    assert isinstance(layer, ConvVariant)
    assert isinstance(layer, nn.Module)


@pytest.mark.parametrize(("path", "unit"), PARTS)
def test_names_every_hyper_parameter_so_that_each_can_be_overridden(path, unit):
    node = layer_nodes(path)[unit]
    parameters = inspect.signature(instantiate(node, _convert_="all").func).parameters.values()
    extras = {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
    assert set(node) == {"_target_", "_partial_"} | extras


@pytest.mark.parametrize("path", [path for path in CONFIGS if OmegaConf.load(path).where], ids=lambda path: path.stem)
def test_where_names_every_field(path):
    keys = set(OmegaConf.load(path).where)
    assert keys == {"_target_", "kernel_sizes", "groups", "stem", "min_channels", "include", "exclude"}


def test_standard_replaces_nothing():
    config = OmegaConf.load(next(path for path in CONFIGS if path.stem == "standard"))
    assert config == {"layer": None, "where": None, "units": None, "regularization_weight": 0.0}
