"""The layer in C++ computes what the drawn layer does, and leaves the layer to itself elsewhere."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from efficientconv.layers import GhostConv2d
from efficientconv.layers.ghost_native import native_library
from efficientconv.native import library
from tests.layers.native import (
    OTHER_INPUTS,
    assert_has_a_gradient,
    assert_only_what_is_asked_for,
    assert_threads_change_no_digit,
    assert_to_rounding,
)

pytestmark = pytest.mark.skipif(library("ghost") is None, reason="there is no C++ compiler")

GEOMETRIES = {
    "half a vector": partial(GhostConv2d, 16, 16, 3, padding=1, bias=False),
    "several bands": partial(GhostConv2d, 16, 16, 3, padding=1),
    "several bands of whole vectors": partial(GhostConv2d, 32, 32, 3, padding=1),
    "odd width": partial(GhostConv2d, 16, 16, 3, padding=1),
    "whole vectors": partial(GhostConv2d, 32, 32, 3, padding=1),
    "half a vector more": partial(GhostConv2d, 24, 48, 3, padding=1),
    "strided": partial(GhostConv2d, 16, 32, 3, stride=2, padding=1, bias=False),
    "strided by rows": partial(GhostConv2d, 16, 16, 3, stride=(2, 1), padding=1),
    "strided 1×1": partial(GhostConv2d, 16, 32, 1, stride=2),
    "dilated": partial(GhostConv2d, 16, 16, 3, padding=2, dilation=2),
    "dilated rows": partial(GhostConv2d, 16, 16, 3, padding=(2, 1), dilation=(2, 1)),
    "5×3": partial(GhostConv2d, 16, 16, (5, 3), padding=(2, 1)),
    "3×5": partial(GhostConv2d, 16, 16, (3, 5), padding=(1, 2)),
    "1×1": partial(GhostConv2d, 16, 16, 1),
    "cheap 5×5": partial(GhostConv2d, 16, 16, 3, padding=1, cheap_kernel_size=5),
    "cheap 1×1": partial(GhostConv2d, 16, 16, 3, padding=1, cheap_kernel_size=1),
}


def made(name: str) -> GhostConv2d:
    torch.manual_seed(0)
    return GEOMETRIES[name]().to(memory_format=torch.channels_last)


def images(layer: GhostConv2d, name: str = "") -> Tensor:
    size = (18, 16) if name.startswith("several bands") else (6, 11 if name == "odd width" else 10)
    x = torch.randn(19, layer.in_channels, *size) * 2 + 1
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize("name", GEOMETRIES)
def test_output_and_gradients_are_those_of_the_drawn_layer(name, drawn, assert_as_exact_as_drawn):
    layer = made(name)
    x = images(layer, name)
    assert native_library(layer, x)
    with drawn():
        assert not native_library(layer, x)
    assert_as_exact_as_drawn(layer, x)


@pytest.mark.parametrize("name", GEOMETRIES)
@torch.no_grad()
def test_inference_with_a_norm_behind(name):
    layer = made(name).eval()
    x = images(layer, name).detach()
    y = copy.deepcopy(layer).double()(x.double())
    scale, shift = torch.linspace(-1, 2, y.shape[1]), torch.linspace(-3, 1, y.shape[1])
    once = layer.fold().rescaled(scale, shift)
    expected = scale.view(-1, 1, 1).double() * y + shift.view(-1, 1, 1)
    twice = -scale.view(-1, 1, 1) * expected
    for form, wanted in ((layer, y), (layer.fold(), y), (once, expected), (once.rescaled(-scale, None), twice)):
        assert native_library(form, x)
        assert_to_rounding(form(x), wanted)


def test_the_stem_reads_any_number_of_channels():
    layer = GhostConv2d(3, 16, 3, padding=1).to(memory_format=torch.channels_last)
    x = images(layer)
    assert not native_library(layer, x)
    expected = torch.autograd.grad(layer(x).square().sum(), list(layer.parameters()))
    x = x.detach()
    assert native_library(layer, x)
    found = torch.autograd.grad(layer(x).square().sum(), list(layer.parameters()))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * b.abs().max().item())


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_no_digit(threads):
    layer = made("half a vector")
    assert_threads_change_no_digit(layer, images(layer), threads)


def test_gradients_of_a_gradient_are_refused(assert_refuses_second_gradient):
    layer = made("half a vector")
    assert_refuses_second_gradient(layer, images(layer))


def test_gradients_that_nobody_asks_for():
    layer = made("half a vector")
    assert_only_what_is_asked_for(layer, images(layer), layer.cheap, layer.primary.weight)


def test_the_output_may_change_in_place():
    layer = made("half a vector")
    x = images(layer)
    expected = torch.autograd.grad(layer(x).relu().sum(), x)
    assert torch.autograd.grad(layer(x).relu_().sum(), x)[0].equal(expected[0])


def test_eval_mode_has_a_gradient():
    for form in (made("half a vector").eval(), made("half a vector").fold()):
        x = images(form.primary)
        assert_has_a_gradient(form, x)


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.cheap.register_forward_hook(lambda *_: None),
        lambda layer: nn.utils.parametrizations.weight_norm(layer.primary),
    ],
    ids=["hook", "weight norm"],
)
def test_other_layers_run_as_they_are_drawn(change):
    layer = made("half a vector")
    change(layer)
    assert not native_library(layer, images(layer))


@pytest.mark.parametrize(
    "arguments",
    [
        {"in_channels": 12},
        {"out_channels": 15},
        {"out_channels": 24},
        {"out_channels": 32, "ratio": 4},
        {"padding_mode": "circular"},
        {"padding": 0},
        {"kernel_size": 2},
        {"stride": 4},
    ],
    ids=str,
)
def test_other_geometries_run_as_they_are_drawn(arguments):
    layer = GhostConv2d(**{"in_channels": 16, "out_channels": 16, "kernel_size": 3, "padding": 1, **arguments})
    assert not native_library(layer, images(layer))


INPUTS = OTHER_INPUTS


@pytest.mark.parametrize("change", INPUTS.values(), ids=INPUTS)
def test_other_inputs_run_as_they_are_drawn(change):
    layer = made("half a vector")
    assert not native_library(layer, change(images(layer)))


def test_a_layer_with_norms_runs_as_it_is_drawn_until_they_are_folded(drawn):
    layer = GhostConv2d(16, 16, 3, padding=1, with_bn=True).to(memory_format=torch.channels_last).eval()
    layer.bn1.running_mean.normal_()
    layer.bn2.running_mean.normal_()
    x = images(layer).detach()
    with torch.no_grad():
        expected, found = layer(x), layer.fold()(x)
        with drawn():
            assert layer(x).equal(expected)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
