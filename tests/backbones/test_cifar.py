import re

import pytest
import torch
from torch import nn

from efficientconv.backbones.cifar import cifar_preresnet, cifar_resnet, units_per_stage, wrn
from efficientconv.backbones.residual import PaddedShortcut

# millions of parameters as the README of BSConv (v0.4.0) prints them
RESNETS_CIFAR100 = {"resnet20": 0.28, "resnet56": 0.86, "resnet110": 1.74, "resnet302": 4.85, "resnet602": 9.71}
WRNS = {  # name: {width: (CIFAR-10, CIFAR-100)}
    "wrn16": {
        1: (0.18, 0.18),
        2: (0.69, 0.7),
        4: (2.75, 2.77),
        6: (6.17, 6.21),
        8: (10.96, 11.01),
        10: (17.12, 17.17),
        12: (24.64, 24.71),
    },
    "wrn28": {
        1: (0.37, 0.38),
        2: (1.47, 1.48),
        3: (3.29, 3.31),
        4: (5.85, 5.87),
        6: (13.14, 13.18),
        8: (23.35, 23.4),
        10: (36.48, 36.54),
        12: (52.52, 52.59),
    },
    "wrn40": {
        1: (0.56, 0.57),
        2: (2.24, 2.26),
        3: (5.04, 5.06),
        4: (8.95, 8.97),
        6: (20.12, 20.15),
        8: (35.75, 35.79),
        10: (55.84, 55.9),
    },
}
WRN_ROWS = [
    (name, width, num_classes, published)
    for name, widths in WRNS.items()
    for width, both in widths.items()
    for num_classes, published in zip((10, 100), both, strict=True)
]

# logits of two images, from the authors' own networks in the state that `fill` gives
AUTHORS_LOGITS = {
    ("resnet20",): [-4.87214832841, 8.29339846203, -3.26796217448, -3.84750702375, 9.70793603654, -2.50208692687],
    ("preresnet20",): [-2.47450128475, 3.07635239275, 1.25212601856, -1.80803378171, 2.69992576466, 1.03713617633],
    ("wrn16", "model.width=2"): [
        *(1.11125760516, -2.3120900336, -2.1812798472),
        *(0.937151239657, -2.25167910563, -2.0994727894),
    ],
}


@pytest.mark.parametrize(("name", "published"), RESNETS_CIFAR100.items())
def test_resnets_have_the_published_parameters(name, published, count):
    assert round(count(name, 100) / 1e6, 2) == published


@pytest.mark.parametrize(("name", "width", "num_classes", "published"), WRN_ROWS)
def test_wide_resnets_have_the_published_parameters(name, width, num_classes, published, count):
    assert round(count(name, num_classes, f"model.width={width}") / 1e6, 2) == published


def test_other_papers_resnets(count):
    # SPConv's ResNet-20 (0.27M) has option B and GhostNet's ResNet-56 (0.85M) option A, neither a norm on the image
    assert count("resnet20", 10, "model.data_norm=false") == 272_474
    assert count("resnet56", 10, "model.data_norm=false", "model.shortcut=A") == 853_018
    assert count("resnet20", 10) == 272_474 + 6


@pytest.mark.parametrize("key", AUTHORS_LOGITS, ids=lambda key: key[0])
def test_same_output_as_the_authors_networks(key, build, fill, images):
    model = fill(build(key[0], 3, *key[1:]).double()).eval()
    expected = torch.tensor(AUTHORS_LOGITS[key], dtype=torch.float64).reshape(2, 3)
    assert torch.allclose(model(images), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_learns_in_every_parameter(shortcut):
    model = cifar_resnet(4, depth=8, shortcut=shortcut)
    model(torch.randn(4, 3, 16, 16)).square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())


def test_shortcuts_are_chosen_by_letter():
    kinds = {type(module) for module in cifar_resnet(10, shortcut="A").modules()}
    assert PaddedShortcut in kinds
    with pytest.raises(ValueError, match=r"^shortcut='C': must be one of A, B$"):
        cifar_resnet(10, shortcut="C")


def test_width_multiplies_the_stages_and_not_the_stem():
    for model in (cifar_resnet(10, width=0.5, shortcut="B"), cifar_preresnet(10, width=0.5), wrn(10, width=0.5)):
        convs = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
        assert convs[0].out_channels == 16
        assert convs[1].out_channels == 8
        assert model.classifier.in_channels == 32


@pytest.mark.parametrize("make", [cifar_resnet, cifar_preresnet, wrn])
def test_data_norm_can_be_left_out(make):
    assert isinstance(make(10).data_norm, nn.BatchNorm2d)
    assert isinstance(make(10, data_norm=False).data_norm, nn.Identity)


@pytest.mark.parametrize(("depth", "others", "units"), [(20, 2, 3), (602, 2, 100), (8, 2, 1), (28, 4, 4), (10, 4, 1)])
def test_units_per_stage(depth, others, units):
    assert units_per_stage(depth, others) == units


@pytest.mark.parametrize(
    ("make", "depth", "message"),
    [
        (cifar_resnet, 57, "depth=57: must be 6n+2; the nearest are 56 and 62"),
        (cifar_preresnet, 21, "depth=21: must be 6n+2; the nearest are 20 and 26"),
        (wrn, 26, "depth=26: must be 6n+4; the nearest are 22 and 28"),
        (wrn, 4, "depth=4: must be 6n+4; the smallest is 10"),
        (cifar_resnet, 20.0, "depth=20.0: must be 6n+2; the smallest is 8"),
    ],
)
def test_depths_that_do_not_exist(make, depth, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make(10, depth=depth)
