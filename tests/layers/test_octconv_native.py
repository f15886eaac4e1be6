"""The layer in C++ computes what the drawn layer does, and leaves the layer to itself elsewhere."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from efficientconv.layers import OctConv2d
from efficientconv.layers.octconv_folded import FoldedOctConv
from efficientconv.layers.octconv_native import native_folded_library, native_library
from efficientconv.native import library
from tests.layers.native import (
    OTHER_INPUTS,
    assert_only_what_is_asked_for,
    assert_threads_change_no_digit,
    assert_to_rounding,
)

pytestmark = pytest.mark.skipif(library("octconv") is None, reason="there is no C++ compiler")

GEOMETRIES = {
    "halves of a vector": partial(OctConv2d, 16, 16, 3, padding=1),
    "vectors": partial(OctConv2d, 32, 32, 3, padding=1),
    "two vectors, no bias": partial(OctConv2d, 64, 64, 3, padding=1, bias=False),
    "wider, other shares": partial(OctConv2d, 32, 48, 3, padding=1, alpha_in=0.25, alpha_out=0.5),
    "narrower": partial(OctConv2d, 64, 24, 3, padding=1, alpha_in=0.75, alpha_out=0.34),
    "5×3, dilated rows": partial(OctConv2d, 16, 16, (5, 3), padding=(4, 1), dilation=(2, 1)),
    "first": partial(OctConv2d, 16, 32, 3, padding=1, alpha_in=0),
    "last": partial(OctConv2d, 32, 16, 3, padding=1, alpha_out=0),
    "strided": partial(OctConv2d, 16, 32, 3, stride=2, padding=1),
    "1×3": partial(OctConv2d, 16, 16, (1, 3), padding=(0, 1)),
}


def made(name: str) -> OctConv2d:
    torch.manual_seed(0)
    layer = GEOMETRIES[name]()
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    return layer.to(memory_format=torch.channels_last)


def images(layer: OctConv2d) -> Tensor:
    x = torch.randn(19, layer.in_channels, 12, 16) * 2 + 1
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize("name", GEOMETRIES)
def test_output_and_gradients_are_those_of_the_drawn_layer(name, drawn, assert_as_exact_as_drawn):
    layer = made(name)
    x = images(layer)
    assert native_library(layer, x)
    with drawn():
        assert not native_library(layer, x)
    assert_as_exact_as_drawn(layer, x)


@pytest.mark.parametrize("name", GEOMETRIES)
@torch.no_grad()
def test_inference_before_and_after_folding_and_with_a_norm_behind(name):
    layer = made(name).eval()
    x = images(layer).detach()
    expected, folded = copy.deepcopy(layer).double()(x.double()), FoldedOctConv(layer).eval()
    scale, shift = torch.randn(2, layer.out_channels)
    scale[0] = 0  # a channel that pruning switched off
    rescaled = folded.rescaled(scale, shift)
    assert native_library(layer, x)
    assert native_folded_library(folded, folded.pool(x))
    assert native_folded_library(rescaled, folded.pool(x))
    forms = [(layer, expected), (folded, expected)]
    forms += [(rescaled, expected * scale.view(-1, 1, 1) + shift.view(-1, 1, 1))]
    for form, exact in forms:
        assert_to_rounding(form(x), exact)


@torch.no_grad()
def test_one_image_is_folded_as_several_are():
    layer = made("vectors").eval()
    form, x = FoldedOctConv(layer).eval(), images(layer).detach()
    assert native_folded_library(form, x[:1])
    assert form(x[:1]).equal(form(x)[:1])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_no_digit(threads):
    layer = made("vectors")
    assert_threads_change_no_digit(layer, images(layer), threads)


def test_gradients_of_a_gradient_are_refused(assert_refuses_second_gradient):
    layer = made("halves of a vector")
    assert_refuses_second_gradient(layer, images(layer))


def test_gradients_that_nobody_asks_for():
    layer = made("halves of a vector")
    assert_only_what_is_asked_for(layer, images(layer), layer.bias, layer.weight)


@pytest.mark.parametrize(
    "arguments",
    [
        {"in_channels": 24},
        {"out_channels": 24},
        {"out_channels": 80},
        {"alpha_in": 0.0, "alpha_out": 0.0},
        {"groups": 16},
        {"stride": 3},
        {"stride": (1, 2)},
        {"padding_mode": "reflect"},
        {"kernel_size": 1, "padding": 0},
        {"dilation": 2, "padding": 2},
    ],
    ids=str,
)
@torch.no_grad()
def test_other_geometries_run_as_they_are_drawn(arguments):
    layer = OctConv2d(**{"in_channels": 16, "out_channels": 16, "kernel_size": 3, "padding": 1, **arguments}).eval()
    x = images(layer).detach()
    assert not native_library(layer, x)
    folded = layer.fold()
    assert not isinstance(folded, FoldedOctConv) or not native_folded_library(folded, x)
    torch.testing.assert_close(folded(x), layer(x), rtol=0, atol=1e-4)


OTHER_SIZES = {
    "odd half": lambda x: x[..., :14].contiguous(memory_format=torch.channels_last),
    "odd height": lambda x: x[:, :, :5].contiguous(memory_format=torch.channels_last),
}
INPUTS = OTHER_INPUTS | OTHER_SIZES


@pytest.mark.parametrize("change", INPUTS.values(), ids=INPUTS)
def test_other_inputs_run_as_they_are_drawn(change):
    layer = made("halves of a vector")
    assert not native_library(layer, change(images(layer)))


@torch.no_grad()
def test_a_folded_layer_with_other_weights_runs_by_operators():
    folded = FoldedOctConv(made("halves of a vector")).eval()
    x = images(folded.at_half).detach()
    folded.load_state_dict({key: value + 1 for key, value in folded.state_dict().items()})
    assert not native_folded_library(folded, x)


def test_folded_layers_have_gradients():
    folded = FoldedOctConv(made("halves of a vector")).eval()
    assert not native_folded_library(folded, images(folded.at_half))
