"""The layer in C++ computes what the drawn layer does, and leaves the layer to itself elsewhere."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from efficientconv.layers import BDRConv2d
from efficientconv.layers.bdrconv_native import native_folded_library, native_library
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

pytestmark = pytest.mark.skipif(library("bdrconv") is None, reason="there is no C++ compiler")

GEOMETRIES = {
    "pairs of pixels": partial(BDRConv2d, 16, 16, 3, padding=1),
    "odd width": partial(BDRConv2d, 16, 16, 3, padding=1),
    "whole vectors": partial(BDRConv2d, 32, 32, 3, padding=1),
    "two vectors": partial(BDRConv2d, 64, 64, 3, padding=1),
    "half a vector more": partial(BDRConv2d, 48, 48, 3, padding=1),
    "strided": partial(BDRConv2d, 16, 32, 3, stride=2, padding=1),
    "strided by rows": partial(BDRConv2d, 32, 32, 3, stride=(2, 1), padding=1),
    "wider": partial(BDRConv2d, 16, 48, 3, padding=1),
    "dilated": partial(BDRConv2d, 16, 16, 3, padding=2, dilation=2),
    "5×3": partial(BDRConv2d, 16, 16, (5, 3), padding=(2, 1)),
    "1×1": partial(BDRConv2d, 16, 16, 1),
    "ratios": partial(BDRConv2d, 32, 96, 3, padding=1, in_ratio=4, out_ratio=4, expansion=4),
    "averaging": partial(BDRConv2d, 16, 16, 3, padding=1),
}


def made(name: str) -> BDRConv2d:
    """Return a layer whose batch norms scale and shift."""
    torch.manual_seed(0)
    layer = with_random_norms(GEOMETRIES[name]()).to(memory_format=torch.channels_last).train()
    for norm in (layer.bn1, layer.bn2):
        norm.momentum = None if name == "averaging" else 0.1
    return layer


def images(layer: BDRConv2d, name: str = "") -> Tensor:
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


@pytest.mark.parametrize("name", ["pairs of pixels", "whole vectors", "two vectors"])
def test_norms_of_channels_that_are_switched_off(name, assert_as_exact_as_drawn):
    layer = made(name)
    for norm in (layer.bn1, layer.bn2):
        norm.weight.data[::3] = 0
    assert_as_exact_as_drawn(layer, images(layer))


@pytest.mark.parametrize("name", GEOMETRIES)
@torch.no_grad()
def test_inference_before_and_after_folding(name):
    layer = made(name).eval()
    x = images(layer, name).detach()
    expected = copy.deepcopy(layer).double()(x.double())
    assert native_library(layer, x)
    for form in (layer, layer.fold()):
        assert_to_rounding(form(x), expected)


@torch.no_grad()
def test_a_folded_layer_with_other_weights_has_their_output():
    form, other = (made("pairs of pixels").eval().fold() for _ in range(2))
    x = images(made("pairs of pixels")).detach()
    other.load_state_dict({key: value * 2 for key, value in form.state_dict().items()})
    assert native_folded_library(form, x)
    assert not native_folded_library(other, x)
    drawn = other(x.contiguous())
    torch.testing.assert_close(other(x), drawn, rtol=0, atol=1e-5 * drawn.abs().max().item())


@pytest.mark.parametrize(
    "change",
    [lambda form: form.conv.register_forward_hook(lambda *_: None), lambda form: form.train()],
    ids=["hook", "trained on"],
)
@torch.no_grad()
def test_folded_layers_that_run_by_operators(change):
    form = made("pairs of pixels").eval().fold()
    change(form)
    assert not native_folded_library(form, images(made("pairs of pixels")).detach())


def test_images_far_from_zero(assert_as_exact_as_drawn):
    layer = made("pairs of pixels")
    x = (images(layer).detach() + 30).contiguous(memory_format=torch.channels_last).requires_grad_()
    assert_as_exact_as_drawn(layer, x)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_no_digit(threads):
    layer = made("pairs of pixels")
    assert_threads_change_no_digit(layer, images(layer), threads)


def test_gradients_of_a_gradient_are_refused(assert_refuses_second_gradient):
    layer = made("pairs of pixels")
    assert_refuses_second_gradient(layer, images(layer))


def test_gradients_that_nobody_asks_for():
    layer = made("pairs of pixels")
    assert_only_what_is_asked_for(layer, images(layer), layer.expand, layer.main_conv.weight)


def test_eval_mode_has_a_gradient():
    layer = made("pairs of pixels").eval()
    x = images(layer)
    assert not native_library(layer, x)
    assert_has_a_gradient(layer, x)


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.bn1.eval(),
        lambda layer: layer.se.fc1.register_forward_hook(lambda *_: None),
        lambda layer: layer.pool.register_forward_hook(lambda *_: None),
        lambda layer: setattr(layer, "bn2", nn.SyncBatchNorm(16)),
        lambda layer: nn.utils.parametrizations.weight_norm(layer.expand),
    ],
    ids=["frozen statistics", "hook", "hook of the pooling", "other norm", "weight norm"],
)
def test_other_layers_run_as_they_are_drawn(change):
    layer = made("pairs of pixels")
    change(layer)
    assert not native_library(layer, images(layer))


@pytest.mark.parametrize(
    "arguments",
    [
        {"in_channels": 8, "out_channels": 8},
        {"in_channels": 256, "out_channels": 256},
        {"padding_mode": "circular"},
        {"main_kernel_size": 3},
        {"stride": 4},
    ],
    ids=str,
)
def test_other_geometries_run_as_they_are_drawn(arguments):
    layer = BDRConv2d(**{"in_channels": 16, "out_channels": 16, "kernel_size": 3, "padding": 1, **arguments})
    assert not native_library(layer, images(layer))


INPUTS = OTHER_INPUTS | ONE_VALUE


@pytest.mark.parametrize("change", INPUTS.values(), ids=INPUTS)
def test_other_inputs_run_as_they_are_drawn(change):
    layer = made("pairs of pixels")
    assert not native_library(layer, change(images(layer)))
