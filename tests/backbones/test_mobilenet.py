import pytest
import torch
from torch import nn

from efficientconv.backbones import mobilenet
from efficientconv.backbones.mobilenet import SqueezeExcite
from efficientconv.layers.depthwise_separable import DepthwiseSeparableConv2d

NAMES = ["mobilenetv1", "mobilenetv2", "mobilenetv3_small", "mobilenetv3_large"]
# name: {width: millions of parameters for (CIFAR-10, CIFAR-100)} as the README of BSConv (v0.4.0) prints them
PUBLISHED = {
    "mobilenetv1": {1: (3.22, 3.31), 0.75: (1.82, 1.89), 0.5: (0.82, 0.87), 0.25: (0.22, 0.24)},
    "mobilenetv2": {1: (2.24, 2.35), 0.75: (1.36, 1.48), 0.5: (0.7, 0.81), 0.25: (0.25, 0.36)},
    "mobilenetv3_small": {1: (1.09, 1.15), 0.75: (0.72, 0.77), 0.5: (0.44, 0.49), 0.35: (0.31, 0.37)},
    "mobilenetv3_large": {1: (2.98, 3.07), 0.75: (1.73, 1.82), 0.5: (0.82, 0.91), 0.35: (0.44, 0.52)},
}
ROWS = [
    (name, width, num_classes, published)
    for name, widths in PUBLISHED.items()
    for width, both in widths.items()
    for num_classes, published in zip((10, 100), both, strict=True)
]

# logits of two images, from the authors' own networks of half width in the state that `fill` gives
AUTHORS_LOGITS = {
    "mobilenetv1": [
        *(-0.00696483420298, -0.0557712902396, -0.149505068456),
        *(-0.0476670554347, 0.0639462993244, -0.237773476087),
    ],
    "mobilenetv2": [0.14930654268, -3.77998881702, 2.89474344764, 1.05086991383, -3.54293172579, 2.36692057221],
    "mobilenetv3_small": [
        *(-0.130162531746, -0.46311281176, -0.104361380212),
        *(-0.0723325770255, -0.429775558283, -0.18832565317),
    ],
    "mobilenetv3_large": [
        *(0.354948977818, -0.802073701731, -0.874023643834),
        *(0.499258773004, -1.27469045028, -2.73214412684),
    ],
}


@pytest.mark.parametrize(("name", "width", "num_classes", "published"), ROWS)
def test_published_parameters(name, width, num_classes, published, count):
    assert round(count(name, num_classes, f"model.width={width}", "model.stem=cifar") / 1e6, 2) == published


@pytest.mark.parametrize("name", NAMES)
def test_same_output_as_the_authors_networks(name, build, fill, images):
    model = fill(build(name, 3, "model.width=0.5", "model.stem=cifar").double()).eval()
    expected = torch.tensor(AUTHORS_LOGITS[name], dtype=torch.float64).reshape(2, 3)
    assert torch.allclose(model(images), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_reduces_by_32_or_by_8(name, build):
    for stem, side in (("imagenet", 2), ("cifar", 8)):
        model = build(name, 3, "model.width=0.25", f"model.stem={stem}")
        features = model.stages(model.stem(torch.randn(1, 3, 64, 64)))
        assert features.shape[2:] == (side, side)


@pytest.mark.parametrize("name", NAMES)
def test_learns_in_every_parameter(name, build):
    torch.manual_seed(0)
    model = build(name, 4, "model.width=0.25", "model.stem=cifar")
    model(torch.randn(8, 3, 32, 32)).square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())


def test_mobilenetv1_has_thirteen_separable_units():
    model = mobilenet.mobilenetv1(10, width=0.25)
    units = [module for module in model.modules() if isinstance(module, DepthwiseSeparableConv2d)]
    assert [unit.out_channels for unit in units] == [16, 32, 32, 64, 64, *[128] * 6, 256, 256]
    bound = (6 / units[0].in_channels) ** 0.5
    pointwise = next(m for m in units[0].modules() if isinstance(m, nn.Conv2d) and m.groups == 1)
    assert pointwise.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.2)  # the network's own initialisation


def test_last_convolution_never_narrows():
    for width, channels in ((0.5, 1280), (1, 1280), (1.5, 1920)):
        assert mobilenet.mobilenetv2(10, width=width).classifier.in_channels == channels


def test_residual_only_where_the_shape_stays():
    units = mobilenet.mobilenetv2(10, width=0.25).stages
    assert [index for index, unit in enumerate(units) if unit.residual] == [2, 4, 5, 7, 8, 9, 11, 12, 14, 15]


def test_mobilenetv3_small_excites_before_the_pool():
    assert isinstance(mobilenet.mobilenetv3_small(10).neck.squeeze_excite, SqueezeExcite)
    assert not hasattr(mobilenet.mobilenetv3_large(10).neck, "squeeze_excite")


def test_squeeze_excite_scales_channels():
    layer = SqueezeExcite(4)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    layer.excite.bias.data = torch.tensor([0.0, 3.0, -3.0, 1.5])  # hardsigmoid: 1/2, 1, 0, 3/4
    x = torch.randn(2, 4, 3, 3)
    assert torch.allclose(layer(x), x * torch.tensor([0.5, 1, 0, 0.75]).reshape(1, 4, 1, 1))


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"^width=0.01: leaves none of 32 channels; must be at least 1/32$"):
        mobilenet.mobilenetv1(10, width=0.01)
    with pytest.raises(ValueError, match=r"^stem='small': must be one of imagenet, cifar$"):
        mobilenet.mobilenetv2(10, stem="small")
    with pytest.raises(ValueError, match=r"^channels=1: squeeze-and-excitation needs at least 4; use a larger width$"):
        mobilenet.mobilenetv3_small(10, width=0.1)
