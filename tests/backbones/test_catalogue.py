"""Every file of configs/model builds a network that maps images to logits and can be traced."""

import re

import pytest
import torch
from omegaconf import OmegaConf
from torch import fx

from efficientconv.config_path import CONFIGS
from efficientconv.profiling.meta import QuickMeta
from tests.backbones.conftest import composed

NAMES = sorted(path.stem for path in (CONFIGS / "model").glob("*.yaml"))
BY_NAME = ("timm", "torchvision")


def test_catalogue_is_there():
    assert {"resnet20", "resnet602", "preresnet56", "wrn28", "resnet50", "mobilenetv1", *BY_NAME} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_node_is_a_partial_of_this_package(name):
    node = composed(name).model
    assert node["_target_"].startswith("efficientconv.backbones.")
    assert node["_partial_"] is True
    assert [key for key in node if OmegaConf.is_missing(node, key)] == (["name"] if name in BY_NAME else [])


DEEP = [name for name in NAMES if re.search(r"\d{3}", name)]  # of families with others of the same parts


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in DEEP)) for name in NAMES])
def test_can_be_traced_and_maps_images_to_logits(name, build):
    overrides = ["model.name=resnet18"] if name in BY_NAME else []
    with torch.device("meta"), QuickMeta():
        traced = fx.symbolic_trace(build(name, 7, *overrides))
        assert traced(torch.empty(2, 3, 33, 47)).shape == (2, 7)
    assert all(parameter.requires_grad for parameter in traced.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_number_of_classes_is_checked(name, build):
    overrides = ["model.name=resnet18"] if name in BY_NAME else []
    with torch.device("meta"), QuickMeta(), pytest.raises(ValueError, match=r"^num_classes=0: must be a whole number"):
        build(name, 0, *overrides)
