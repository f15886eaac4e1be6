"""The layer in C++ computes what the drawn layer does, and leaves the layer to itself elsewhere."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from efficientconv.layers import SlimConv2d
from efficientconv.layers.slimconv_native import native_library
from efficientconv.native import library
from tests.deploy.conftest import with_random_norms
from tests.layers.native import (
    OTHER_INPUTS,
    assert_has_a_gradient,
    assert_only_what_is_asked_for,
    assert_threads_change_no_digit,
    assert_to_rounding,
)

pytestmark = pytest.mark.skipif(library("slimconv") is None, reason="there is no C++ compiler")

GEOMETRIES = {
    "paths of whole and half vectors": partial(SlimConv2d, 32, 32, 3, padding=1),
    "width restored": partial(SlimConv2d, 32, 32, 3, padding=1, restore_width=True),
    "four parts": partial(SlimConv2d, 64, 64, 3, padding=1, num_splits=4),
    "three parts": partial(SlimConv2d, 96, 96, 3, padding=1, num_splits=3, restore_width=True),
    "5×3": partial(SlimConv2d, 32, 32, (5, 3), padding=(2, 1)),
    "dilated": partial(SlimConv2d, 32, 32, 3, padding=2, dilation=2),
    "1×1": partial(SlimConv2d, 32, 32, 1),
}


def made(name: str) -> SlimConv2d:
    """Return a layer whose batch norms scale and shift."""
    torch.manual_seed(0)
    return with_random_norms(GEOMETRIES[name]()).to(memory_format=torch.channels_last).train()


def images(layer: SlimConv2d, shift: float = 1) -> Tensor:
    x = torch.randn(19, layer.in_channels, 6, 11) * 2 + shift
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize("name", GEOMETRIES)
def test_output_gradients_and_statistics_are_those_of_the_drawn_layer(name, drawn, assert_as_exact_as_drawn):
    layer = made(name)
    x = images(layer)
    assert native_library(layer, x)
    with drawn():
        assert not native_library(layer, x)
    assert_as_exact_as_drawn(layer, x)


def test_images_far_from_zero(assert_as_exact_as_drawn):
    layer = made("width restored")
    assert_as_exact_as_drawn(layer, images(layer, shift=30))


@pytest.mark.parametrize("name", GEOMETRIES)
@torch.no_grad()
def test_inference_before_and_after_folding(name):
    layer = made(name).eval()
    x = images(layer).detach()
    expected = copy.deepcopy(layer).double()(x.double())
    for form in (layer, layer.fold()):
        assert native_library(form, x)
        assert_to_rounding(form(x), expected)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_no_digit(threads):
    layer = made("width restored")
    assert_threads_change_no_digit(layer, images(layer), threads)


def test_gradients_of_a_gradient_are_refused(assert_refuses_second_gradient):
    layer = made("width restored")
    assert_refuses_second_gradient(layer, images(layer))


def test_gradients_that_nobody_asks_for():
    layer = made("paths of whole and half vectors")
    assert_only_what_is_asked_for(layer, images(layer), layer.path1, layer.path2[4].bias)


def test_eval_mode_has_a_gradient():
    layer = made("width restored").eval()
    x = images(layer)
    assert not native_library(layer, x)
    assert_has_a_gradient(layer, x)


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.path1[1].eval(),
        lambda layer: layer.gate[0].register_forward_hook(lambda *_: None),
        lambda layer: layer.path2[2].register_forward_hook(lambda *_: None),
        lambda layer: layer.restore.register_forward_hook(lambda *_: None),
        lambda layer: layer.path1.__setitem__(1, nn.SyncBatchNorm(16)),
        lambda layer: layer.path2.__setitem__(2, nn.SiLU()),
        lambda layer: nn.utils.parametrizations.weight_norm(layer.path2[3]),
    ],
    ids=["frozen statistics", "hook", "hook of a ReLU", "hook of a part", "other norm", "other bend", "weight norm"],
)
def test_other_layers_run_as_they_are_drawn(change):
    layer = made("width restored")
    change(layer)
    assert not native_library(layer, images(layer))


@pytest.mark.parametrize(
    "arguments",
    [
        {"in_channels": 48, "out_channels": 48, "num_splits": 4},
        {"in_channels": 288, "out_channels": 288},
        {"padding_mode": "circular"},
        {"stride": 2},
        {"groups": 2},
        {"kernel_size": 2, "dilation": 2},
    ],
    ids=str,
)
def test_other_geometries_run_as_they_are_drawn(arguments):
    layer = SlimConv2d(**{"in_channels": 32, "out_channels": 32, "kernel_size": 3, "padding": 1, **arguments})
    assert not native_library(layer, images(layer))


OTHER_SIZES = {
    "one image": lambda x: x[:1],
}
INPUTS = OTHER_INPUTS | OTHER_SIZES


@pytest.mark.parametrize("change", INPUTS.values(), ids=INPUTS)
def test_other_inputs_run_as_they_are_drawn(change):
    layer = made("paths of whole and half vectors")
    assert not native_library(layer, change(images(layer)))
