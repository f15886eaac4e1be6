"""The layer in C++ computes what the drawn layer does, and leaves the layer to itself elsewhere."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from efficientconv.layers import SCConv2d, SPConv2d
from efficientconv.layers import folded_fusion_native as folded
from efficientconv.layers.spconv_native import native_library
from efficientconv.native import library
from tests.deploy.conftest import with_random_norms
from tests.layers.native import (
    ONE_VALUE,
    OTHER_INPUTS,
    assert_has_a_gradient,
    assert_only_what_is_asked_for,
    assert_threads_change_no_digit,
    assert_to_rounding,
)

pytestmark = pytest.mark.skipif(library("spconv") is None, reason="there is no C++ compiler")

GEOMETRIES = {
    "pairs of pixels": partial(SPConv2d, 16, 16, 3, padding=1),
    "odd width": partial(SPConv2d, 16, 16, 3, padding=1),
    "whole vectors": partial(SPConv2d, 32, 32, 3, padding=1),
    "wide groups": partial(SPConv2d, 64, 64, 3, padding=1),
    "half a vector more": partial(SPConv2d, 48, 24, 3, padding=1),
    "strided": partial(SPConv2d, 16, 32, 3, stride=2, padding=1),
    "strided by rows": partial(SPConv2d, 32, 32, 3, stride=(2, 1), padding=1),
    "strided and dilated": partial(SPConv2d, 16, 16, 5, stride=2, padding=4, dilation=2),
    "dilated": partial(SPConv2d, 16, 16, 3, padding=2, dilation=2),
    "5×3": partial(SPConv2d, 16, 16, (5, 3), padding=(2, 1)),
    "1×1": partial(SPConv2d, 16, 16, 1),
    "one group": partial(SPConv2d, 16, 16, 3, padding=1, gwc_groups=1),
    "four groups": partial(SPConv2d, 32, 64, 3, padding=1, alpha=0.25, gwc_groups=4),
    "averaging": partial(SPConv2d, 16, 16, 3, padding=1),
}


def made(name: str) -> SPConv2d:
    """Return a layer whose batch norms scale and shift."""
    torch.manual_seed(0)
    layer = with_random_norms(GEOMETRIES[name]()).to(memory_format=torch.channels_last).train()
    for norm in (layer.bn1, layer.bn2):
        norm.momentum = None if name == "averaging" else 0.1
    return layer


def images(layer: SPConv2d, name: str = "") -> Tensor:
    x = torch.randn(19, layer.in_channels, 6, 11 if name == "odd width" else 10) * 2 + 1
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize("name", GEOMETRIES)
def test_output_gradients_and_statistics_are_those_of_the_drawn_layer(name, drawn, assert_as_exact_as_drawn):
    layer = made(name)
    x = images(layer, name)
    assert native_library(layer, x)
    with drawn():
        assert not native_library(layer, x)
    assert_as_exact_as_drawn(layer, x)


@pytest.mark.parametrize("name", GEOMETRIES)
@torch.no_grad()
def test_inference_before_and_after_folding(name):
    layer = made(name).eval()
    x = images(layer, name).detach()
    expected = copy.deepcopy(layer).double()(x.double())
    assert native_library(layer, x)
    form = layer.fold()
    assert folded.native_library(form, x)
    for computes in (layer, form):
        assert_to_rounding(computes(x), expected)
    assert_to_rounding(form(x[:1]), expected[:1])


@pytest.mark.parametrize(
    ("width", "stride"), [(16, 1), (128, 1), (16, 2)], ids=["one dense kernel", "groups and a 1×1", "strided"]
)
@torch.no_grad()
def test_folded_with_a_norm_behind_it(width, stride):
    torch.manual_seed(0)
    layer = with_random_norms(SPConv2d(width, width, 3, stride, 1)).to(memory_format=torch.channels_last).eval()
    scale, shift = torch.randn(2, width)
    scale[0] = 0  # a channel that pruning switched off
    form, x = layer.fold().rescaled(scale, shift), images(layer).detach()
    assert folded.native_library(form, x)
    expected = layer.double()(x.double()) * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)
    assert_to_rounding(form(x), expected)


@torch.no_grad()
def test_folded_fusion_of_scconv():
    torch.manual_seed(0)
    layer = SCConv2d(32, 32, 3, padding=1).to(memory_format=torch.channels_last).eval()
    x = torch.randn(3, 32, 6, 5).contiguous(memory_format=torch.channels_last)
    form = layer.fold()
    assert folded.native_library(form.fusion, x)
    torch.testing.assert_close(form(x).double(), layer.double()(x.double()), rtol=0, atol=1e-5)


def test_folded_form_has_a_gradient():
    layer = made("pairs of pixels").eval()
    form, x = layer.fold(), images(layer)
    assert not folded.native_library(form, x)
    assert_has_a_gradient(form, x)


def test_images_far_from_zero(assert_as_exact_as_drawn):
    layer = made("pairs of pixels")
    x = (images(layer).detach() + 30).contiguous(memory_format=torch.channels_last).requires_grad_()
    assert_as_exact_as_drawn(layer, x)


@pytest.mark.parametrize("name", ["pairs of pixels", "strided"])
def test_threads_change_no_digit(name):
    layer = made(name)
    assert_threads_change_no_digit(layer, images(layer), 3)


@pytest.mark.parametrize("name", ["pairs of pixels", "strided"])
def test_gradients_of_a_gradient_are_refused(name, assert_refuses_second_gradient):
    layer = made(name)
    assert_refuses_second_gradient(layer, images(layer))


def test_gradients_that_nobody_asks_for():
    layer = made("strided")
    assert_only_what_is_asked_for(layer, images(layer), layer.pwc, layer.gwc.weight)


def test_eval_mode_has_a_gradient():
    layer = made("pairs of pixels").eval()
    x = images(layer)
    assert not native_library(layer, x)
    assert_has_a_gradient(layer, x)


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.bn1.eval(),
        lambda layer: layer.pwc.register_forward_hook(lambda *_: None),
        lambda layer: setattr(layer, "bn2", nn.SyncBatchNorm(16)),
        lambda layer: nn.utils.parametrizations.weight_norm(layer.gwc),
    ],
    ids=["frozen statistics", "hook", "other norm", "weight norm"],
)
def test_other_layers_run_as_they_are_drawn(change):
    layer = made("pairs of pixels")
    change(layer)
    assert not native_library(layer, images(layer))


@pytest.mark.parametrize(
    "arguments",
    [{"in_channels": 8}, {"out_channels": 12}, {"out_channels": 256}, {"padding_mode": "circular"}, {"stride": 4}],
    ids=str,
)
def test_other_geometries_run_as_they_are_drawn(arguments):
    layer = SPConv2d(**{"in_channels": 16, "out_channels": 16, "kernel_size": 3, "padding": 1, **arguments})
    assert not native_library(layer, images(layer))


INPUTS = OTHER_INPUTS | ONE_VALUE


@pytest.mark.parametrize("change", INPUTS.values(), ids=INPUTS)
def test_other_inputs_run_as_they_are_drawn(change):
    layer = made("pairs of pixels")
    assert not native_library(layer, change(images(layer)))
