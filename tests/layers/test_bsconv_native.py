"""BSConv-S in C++ computes what the drawn layer does, and leaves the layer to its other forms elsewhere."""

from __future__ import annotations

import copy
import weakref
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from efficientconv.layers import BSConvS, BSConvU
from efficientconv.layers.bsconv_folded import FoldedBSConv
from efficientconv.layers.bsconv_native import WIDEST, native_folded_library, native_library
from efficientconv.native import library
from tests.layers.bsconv import (
    LAYERS_WITH_SOMETHING_ELSE,
    assert_first_bias_moves_the_second_mean,
    assert_statistics_keep_their_digits,
    cancelling_channels,
    large_mean,
    with_norms,
)
from tests.layers.native import (
    ONE_VALUE,
    OTHER_INPUTS,
    assert_has_a_gradient,
    assert_only_what_is_asked_for,
    assert_threads_change_no_digit,
    assert_to_rounding,
)

pytestmark = pytest.mark.skipif(library("bsconv") is None, reason="there is no C++ compiler")

GEOMETRIES = {
    "halves of a vector": partial(BSConvS, 8, 8, 3, padding=1),
    "vectors": partial(BSConvS, 16, 16, 3, padding=1, bias=False),
    "wider, strided": partial(BSConvS, 16, 32, 3, stride=2, padding=1),
    "strided columns": partial(BSConvS, 16, 24, 3, stride=(1, 2), padding=1),
    "narrower, odd subspace": partial(BSConvS, 32, 16, 3, padding=1, p=0.34),
    "two vectors of subspace": partial(BSConvS, 64, 64, 3, padding=1),
    "whole subspace": partial(BSConvS, 16, 16, 3, padding=1, p=1),
    "5×3, dilated": partial(BSConvS, 8, 16, (5, 3), padding=(4, 2), dilation=(2, 2)),
    "1×1": partial(BSConvS, 8, 8, 1),
    "averaging": partial(BSConvS, 8, 8, 3, padding=1),
}


def made(name: str) -> BSConvS:
    """Return a layer whose batch norms scale and shift."""
    torch.manual_seed(0)
    return with_norms(GEOMETRIES[name](with_bn=True), averages=name == "averaging")


def images(layer: BSConvS) -> Tensor:
    x = torch.randn(19, layer.in_channels, 7, 9) * 2 + 1
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize("name", GEOMETRIES)
def test_output_gradients_and_statistics_are_those_of_the_drawn_layer(name, drawn, assert_as_exact_as_drawn):
    layer = made(name)
    x = images(layer)
    assert native_library(layer, x)
    with drawn():
        assert not native_library(layer, x)
    assert_as_exact_as_drawn(layer, x)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", ["vectors", "wider, strided"])
def test_threads_change_no_digit(name, threads):
    layer = made(name)
    assert_threads_change_no_digit(layer, images(layer), threads)


def test_gradients_of_a_gradient_are_refused(assert_refuses_second_gradient):
    layer = made("vectors")
    assert_refuses_second_gradient(layer, images(layer))


def test_gradients_that_nobody_asks_for():
    layer = made("vectors")
    assert_only_what_is_asked_for(layer, images(layer), layer.bn1, layer.pw1.weight)


def test_the_first_bias_has_a_gradient_of_zero_and_moves_the_second_mean():
    layer = made("vectors")
    assert_first_bias_moves_the_second_mean(layer, images(layer))


@torch.no_grad()
def a_channel_of_nothing(layer: BSConvS, x: Tensor) -> None:
    layer.pw2.weight[3] = 0


@pytest.mark.parametrize("change", [large_mean, cancelling_channels, a_channel_of_nothing])
def test_statistics_keep_their_digits(change, drawn):
    layer = made("vectors")
    x = images(layer)
    change(layer, x)
    assert_statistics_keep_their_digits(layer, x, drawn)


OTHER_LAYERS = LAYERS_WITH_SOMETHING_ELSE | {
    "hook on the depthwise convolution": lambda layer: layer.dw.register_forward_hook(lambda *_: None)
}


@pytest.mark.parametrize("change", OTHER_LAYERS.values(), ids=OTHER_LAYERS)
def test_other_layers_are_computed_in_another_form(change):
    layer = made("vectors")
    change(layer)
    assert not native_library(layer, images(layer))


@pytest.mark.parametrize(
    "arguments",
    [
        {"in_channels": 12},
        {"out_channels": 20},
        {"out_channels": WIDEST + 8},
        {"padding": 0},
        {"padding_mode": "reflect"},
        {"kernel_size": 2, "padding": 1},
        {"with_bn": False},
    ],
    ids=str,
)
def test_other_geometries_are_computed_in_another_form(arguments):
    geometry = {"in_channels": 16, "out_channels": 16, "kernel_size": 3, "padding": 1, "with_bn": True}
    layer = BSConvS(**{**geometry, **arguments})
    assert not native_library(layer, images(layer))


@pytest.mark.parametrize("change", (OTHER_INPUTS | ONE_VALUE).values(), ids=OTHER_INPUTS | ONE_VALUE)
def test_other_images_are_computed_in_another_form(change):
    layer = made("halves of a vector")
    assert not native_library(layer, change(images(layer)))


FOLDED = GEOMETRIES | {
    "unconstrained": partial(BSConvU, 16, 24, 3, padding=1, bias=False),
    "unconstrained, strided": partial(BSConvU, 8, 16, 3, stride=2, padding=1),
}


def folded(name: str, *, with_bn: bool = True) -> FoldedBSConv:
    """Return a folded layer whose batch norms scaled and shifted."""
    torch.manual_seed(0)
    layer = FOLDED[name](with_bn=with_bn)
    for norm in layer.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for value in (norm.weight, norm.bias, norm.running_mean):
                nn.init.uniform_(value, 0.5, 1.5)
    form = layer.fold()
    assert isinstance(form, FoldedBSConv)
    return form.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", FOLDED)
@torch.no_grad()
def test_inference_with_a_norm_behind_and_an_ending(name, count):
    form = folded(name)
    x = images(FOLDED[name]()).detach()[:count]
    scale, shift = torch.randn(2, form.dw.out_channels)
    for each in (form, form.rescaled(scale, None), form.rescaled(scale, shift)):
        exact = copy.deepcopy(each).double()(x.double())
        assert native_folded_library(each, x)
        assert_to_rounding(each(x), exact)
        shortcut = torch.randn_like(exact).float()
        each.activates = True
        assert_to_rounding(each(x, shortcut), (exact + shortcut.double()).relu())


@torch.no_grad()
def test_a_folded_layer_without_norms():
    form, x = folded("vectors", with_bn=False), images(made("vectors")).detach()
    assert_to_rounding(form(x), copy.deepcopy(form).double()(x.double()))


@torch.no_grad()
def test_a_folded_layer_sees_its_weights_change():
    form, x = folded("vectors"), images(made("vectors")).detach()
    form(x)
    for parameter in form.parameters():
        parameter.data.add_(0.1)
    assert native_folded_library(form, x)
    assert_to_rounding(form(x), copy.deepcopy(form).double()(x.double()))


class _Doubled(BSConvU):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def test_wide_layers_fold_to_themselves():
    assert isinstance(BSConvU(WIDEST + 8, 8, 3).fold(), BSConvU)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (BSConvU, lambda layer: setattr(layer, "bn", nn.ReLU())),
        (BSConvU, lambda layer: layer.dw.register_forward_hook(lambda module, x, y: y + 1)),
        (BSConvU, lambda layer: layer.register_forward_hook(lambda module, x, y: y + 1)),
        (BSConvU, lambda layer: nn.utils.parametrizations.weight_norm(layer.dw)),
        (BSConvU, lambda layer: setattr(layer, "dw", nn.Sequential(layer.dw, nn.ReLU()))),
        (_Doubled, lambda layer: None),
    ],
    ids=["ReLU", "hook", "hook on the layer", "weight norm", "sequence", "other forward"],
)
@torch.no_grad()
def test_layers_with_more_in_them_fold_to_themselves(kind, change):
    layer = kind(8, 8, 3, padding=1)
    change(layer.eval())
    folded, x = layer.fold(), torch.randn(2, layer.in_channels, 5, 5)
    assert not isinstance(folded, FoldedBSConv)
    assert folded(x).equal(layer(x))


def test_a_gradient_runs_by_operators():
    form, x = folded("vectors"), images(made("vectors"))
    assert not native_folded_library(form, x)
    assert_has_a_gradient(form, x)


@pytest.mark.parametrize("change", OTHER_INPUTS.values(), ids=OTHER_INPUTS)
@torch.no_grad()
def test_other_images_run_by_operators(change):
    assert not native_folded_library(folded("vectors"), change(images(made("vectors"))))


@torch.no_grad()
def test_a_hook_is_called():
    form, seen = folded("vectors"), []
    form.pointwise[0].register_forward_hook(lambda *arguments: seen.append(arguments))
    form(images(made("vectors")).detach())
    assert len(seen) == 1


def test_the_graph_holds_no_image_after_its_backward_pass():
    layer, x = made("vectors"), images(made("vectors"))
    image = x * 2
    y = layer(image)
    held = weakref.ref(image)
    y.sum().backward()
    del image
    assert held() is None
    assert y.grad_fn is not None
