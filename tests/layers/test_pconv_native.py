import copy

import pytest
import torch
from torch import nn

from efficientconv.layers import PConv2d
from efficientconv.layers.pconv_native import native_library
from efficientconv.native import library
from tests.layers.native import OTHER_INPUTS, assert_to_rounding

pytestmark = pytest.mark.skipif(library("pconv") is None, reason="no C++ compiler")

GEOMETRIES = {
    "16": (16, {}),
    "an odd number": (24, {"n_div": 5}),
    "all": (8, {"n_div": 1}),
    "wide": (96, {"kernel_size": (3, 5), "padding": (1, 2)}),
    "dilated": (16, {"dilation": 2, "padding": 2, "bias": False}),
    "1x1": (16, {"kernel_size": 1, "padding": 0}),
}


def form(width: int = 16, *, kernel_size=3, padding=1, **geometry) -> nn.Module:
    torch.manual_seed(0)
    return PConv2d(width, width, kernel_size, padding=padding, **geometry).fold()


def image(width: int = 16, images: int = 3, side: int = 7) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(images, width, side, side, generator=generator).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize(("width", "geometry"), GEOMETRIES.values(), ids=GEOMETRIES)
@torch.no_grad()
def test_with_a_norm_to_rounding(width, geometry, images):
    folded, x = form(width, **geometry), image(width, images)
    for each in (folded, folded.rescaled(torch.randn(width), None), folded.rescaled(*torch.randn(2, width))):
        assert native_library(each, x)
        assert_to_rounding(each(x), copy.deepcopy(each).double()(x.double()))


@torch.no_grad()
def test_threads_change_no_digit():
    folded, x, before = form(), image(), torch.get_num_threads()
    expected = folded(x)
    torch.set_num_threads(3)
    try:
        assert folded(x).equal(expected)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("other", OTHER_INPUTS.values(), ids=OTHER_INPUTS)
@torch.no_grad()
def test_other_images_by_operators(other):
    assert native_library(form(), other(image())) is None


@pytest.mark.parametrize("other", [form(12), form(260), form(padding_mode="circular")], ids=["12", "260", "circular"])
@torch.no_grad()
def test_other_layers_by_operators(other):
    assert native_library(other, image(other.in_channels)) is None


def test_a_gradient_by_operators():
    folded, x = form(), image().requires_grad_()
    folded(x).square().sum().backward()
    assert x.grad.abs().sum() > 0


@torch.no_grad()
def test_a_hook_on_the_convolution_is_called():
    folded, seen = form(), []
    folded.conv.register_forward_hook(lambda *arguments: seen.append(arguments))
    folded(image())
    assert len(seen) == 1
