"""The layer in C++ computes what the drawn layer does, and leaves the layer to itself elsewhere."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from efficientconv.layers import SCConv2d
from efficientconv.layers.scconv_folded import FoldedSCConv
from efficientconv.layers.scconv_native import native_folded_library, native_library
from efficientconv.native import library
from tests.layers.native import (
    OTHER_INPUTS,
    are_the_same,
    assert_only_what_is_asked_for,
    assert_threads_change_no_digit,
    assert_to_rounding,
    gradients,
)

pytestmark = pytest.mark.skipif(library("scconv") is None, reason="there is no C++ compiler")

GEOMETRIES = {
    "paths of half a vector": partial(SCConv2d, 16, 16, 3, padding=1),
    "groups by themselves": partial(SCConv2d, 32, 32, 3, padding=1),
    "groups of two taps' width": partial(SCConv2d, 64, 64, 3, padding=1),
    "half a vector more": partial(SCConv2d, 48, 24, 3, padding=1, alpha=1 / 3),
    "wider, no bias": partial(SCConv2d, 16, 40, 3, padding=1, norm_groups=4, bias=False),
    "shares": partial(SCConv2d, 64, 32, 3, padding=1, alpha=0.25, gwc_groups=4, gate_threshold=0.4),
    "one group": partial(SCConv2d, 32, 32, 3, padding=1, gwc_groups=1, norm_groups=1),
    "5×3": partial(SCConv2d, 16, 16, (5, 3), padding=(2, 1)),
    "dilated": partial(SCConv2d, 32, 32, 3, padding=2, dilation=2),
    "1×1": partial(SCConv2d, 16, 16, 1),
}


def made(name: str) -> SCConv2d:
    """Return a layer whose scores lie on both sides of the threshold."""
    torch.manual_seed(0)
    layer = GEOMETRIES[name]()
    nn.init.uniform_(layer.norm.weight, 0.5, 1.5)
    nn.init.uniform_(layer.norm.bias, -1, 1)
    return layer.to(memory_format=torch.channels_last)


def images(layer: SCConv2d, shift: float = 1) -> Tensor:
    x = torch.randn(19, layer.in_channels, 6, 11) * 2 + shift
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize("name", GEOMETRIES)
def test_output_and_gradients_are_those_of_the_drawn_layer(name, drawn, assert_as_exact_as_drawn):
    layer = made(name)
    x = images(layer)
    assert native_library(layer, x)
    with drawn():
        assert not native_library(layer, x)
    assert_as_exact_as_drawn(layer, x)


def test_images_far_from_zero(assert_as_exact_as_drawn):
    layer = made("paths of half a vector")
    assert_as_exact_as_drawn(layer, images(layer, shift=30))


def test_scores_that_no_sigmoid_can_hold():
    layer = made("paths of half a vector")
    nn.init.constant_(layer.norm.bias, -1e6)  # all sigmoids are 0
    y = layer(images(layer))
    expected = layer.gwc.bias * torch.sigmoid(layer.gwc.bias)  # of y₁, the bias, and y₂, zero
    torch.testing.assert_close(y, expected.view(-1, 1, 1).expand_as(y))
    nn.init.constant_(layer.norm.bias, 1e6)  # all are 1
    x = images(layer).detach()
    torch.testing.assert_close(layer(x), layer._channel_reconstruction(x))


@pytest.mark.parametrize("name", GEOMETRIES)
@torch.no_grad()
def test_inference_before_and_after_folding_and_with_a_norm_behind(name):
    layer = made(name).eval()
    x = images(layer).detach()
    expected, folded = copy.deepcopy(layer).double()(x.double()), FoldedSCConv(layer).eval()
    assert native_library(layer, x)
    assert native_folded_library(folded, x)
    scale, shift = torch.randn(2, layer.out_channels)
    scale[0] = 0  # a channel that pruning switched off
    rescaled = expected * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)
    forms = [(layer, expected), (folded, expected), (folded.rescaled(scale, shift), rescaled)]
    forms += [(folded.rescaled(scale + 1, None).rescaled(scale / (scale + 1), shift), rescaled)]
    for form, exact in forms:
        assert_to_rounding(form(x), exact)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_no_digit(threads):
    layer = made("groups by themselves")
    assert_threads_change_no_digit(layer, images(layer), threads)


def test_gradients_of_a_gradient_are_refused(assert_refuses_second_gradient):
    layer = made("paths of half a vector")
    assert_refuses_second_gradient(layer, images(layer))


def test_gradients_that_nobody_asks_for():
    layer = made("paths of half a vector")
    assert_only_what_is_asked_for(layer, images(layer), layer.pwc1, layer.gwc.weight)


def test_eval_mode_has_the_same_gradients():
    layer = made("groups by themselves")
    x = images(layer)
    expected = gradients(layer, x)
    assert are_the_same(gradients(layer.eval(), x), expected)


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.norm.register_forward_hook(lambda *_: None),
        lambda layer: setattr(layer, "norm", nn.GroupNorm(16, 16, affine=False)),
        lambda layer: nn.utils.parametrizations.weight_norm(layer.gwc),
    ],
    ids=["hook", "norm without weights", "weight norm"],
)
def test_other_layers_run_as_they_are_drawn(change):
    layer = made("paths of half a vector")
    change(layer)
    assert not native_library(layer, images(layer))


@pytest.mark.parametrize(
    "arguments",
    [
        {"in_channels": 24, "norm_groups": 8},
        {"out_channels": 12},
        {"out_channels": 264},
        {"padding_mode": "reflect"},
        {"kernel_size": 2, "dilation": 2},
        {"squeeze_ratio": 4},
    ],
    ids=str,
)
def test_other_geometries_run_as_they_are_drawn(arguments):
    layer = SCConv2d(**{"in_channels": 16, "out_channels": 16, "kernel_size": 3, "padding": 1, **arguments})
    assert not native_library(layer, images(layer))


INPUTS = OTHER_INPUTS


@pytest.mark.parametrize("change", INPUTS.values(), ids=INPUTS)
def test_other_inputs_run_as_they_are_drawn(change):
    layer = made("paths of half a vector")
    assert not native_library(layer, change(images(layer)))


@pytest.mark.parametrize(
    "change",
    [
        lambda folded: folded.load_state_dict({key: value + 1 for key, value in folded.state_dict().items()}),
        lambda folded: folded.train(),
    ],
    ids=["other weights", "trained on"],
)
@torch.no_grad()
def test_folded_layers_that_run_by_operators(change):
    folded = FoldedSCConv(made("paths of half a vector")).eval()
    x = images(folded.fusion.second).detach()
    change(folded)
    assert not native_folded_library(folded, x)


def test_folded_layers_have_gradients():
    folded = FoldedSCConv(made("paths of half a vector")).eval()
    assert not native_folded_library(folded, images(folded.fusion.second))
