"""The training step with two products computes what the drawn layer does, and leaves the layer to itself elsewhere."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from efficientconv.layers import BSConvS, bsconv, bsconv_training
from efficientconv.layers.bsconv_training import FEWEST_VALUES, WIDEST, is_for, training_step
from tests.layers.bsconv import (
    LAYERS_WITH_SOMETHING_ELSE,
    assert_first_bias_moves_the_second_mean,
    assert_statistics_keep_their_digits,
    cancelling_channels,
    large_mean,
    with_norms,
)

GEOMETRIES = {
    "usual": partial(BSConvS, 16, 16, 3, padding=1),
    "wider, strided": partial(BSConvS, 8, 12, 3, stride=2, padding=1, bias=False),
    "narrower": partial(BSConvS, 12, 5, 3, p=1),
    "stem": partial(BSConvS, 3, 8, (5, 3), padding=(2, 1), padding_mode="reflect"),
    "one channel": partial(BSConvS, 1, 4, 3, padding=1),
    "averaging": partial(BSConvS, 8, 8, 3, padding=1),
}


@pytest.fixture(autouse=True)
def this_form(monkeypatch) -> None:
    """Let small images do, and leave float32 to this form, not to C++."""
    monkeypatch.setattr(bsconv, "native_library", lambda layer, x: None)
    monkeypatch.setattr(bsconv_training, "FEWEST_VALUES", 0)


def made(name: str, dtype: torch.dtype = torch.float64) -> BSConvS:
    """Return a layer whose batch norms scale and shift."""
    torch.manual_seed(0)
    return with_norms(GEOMETRIES[name](with_bn=True, dtype=dtype), averages=name == "averaging")


def images(layer: BSConvS, dtype: torch.dtype = torch.float64, mean: float = 1.0) -> Tensor:
    x = torch.randn(3, layer.in_channels, 6, 5, dtype=dtype) * 2 + mean
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_output_gradients_and_statistics_are_those_of_the_drawn_layer(name, dtype, tolerance, drawn, assert_as_drawn):
    layer = made(name, dtype)
    x = images(layer, dtype)
    assert is_for(layer, x)
    with drawn():
        assert not is_for(layer, x)
    assert_as_drawn(layer, x, tolerance)


@pytest.mark.parametrize("name", ["usual", "wider, strided", "stem"])
def test_gradients(name):
    layer = made(name)
    x = images(layer)[:2, :, :3, :3].detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    parameters = [p for module in (layer.pw1, layer.bn1, layer.pw2, layer.bn2) for p in module.parameters()]
    assert gradcheck(lambda x, *parameters: training_step(layer, x), (x, *parameters), fast_mode=True)


def test_gradients_of_a_gradient_are_refused(assert_refuses_second_gradient):
    layer = made("usual")
    assert_refuses_second_gradient(layer, images(layer))


def test_gradients_that_nobody_asks_for():
    layer = made("usual")
    layer.bn1.requires_grad_(False)
    layer(images(layer).detach()).sum().backward()  # of the sum the gradient is one number, expanded
    assert layer.bn1.weight.grad is None
    assert layer.pw1.weight.grad.abs().sum() > 0
    with torch.no_grad():
        assert not layer(images(layer)).requires_grad


def test_the_first_bias_has_a_gradient_of_zero_and_moves_the_second_mean():
    layer = made("usual")
    assert_first_bias_moves_the_second_mean(layer, images(layer))


@pytest.mark.parametrize("change", [large_mean, cancelling_channels])
def test_statistics_keep_their_digits(change, drawn):
    layer = made("usual", torch.float32)
    x = images(layer, torch.float32)
    change(layer, x)
    assert_statistics_keep_their_digits(layer, x, drawn)


@pytest.mark.parametrize("change", LAYERS_WITH_SOMETHING_ELSE.values(), ids=LAYERS_WITH_SOMETHING_ELSE)
def test_layers_that_are_computed_as_drawn(change):
    layer = made("usual")
    change(layer)
    assert not is_for(layer, images(layer))


def test_layers_without_norms_and_wide_ones_are_computed_as_drawn():
    plain = BSConvS(8, 8, 3, padding=1)
    assert not is_for(plain, images(plain, torch.float32))
    wide = BSConvS(WIDEST + 1, 8, 3, padding=1, p=1, with_bn=True)
    assert not is_for(wide, images(wide, torch.float32))


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.contiguous(memory_format=torch.contiguous_format),
        lambda x: x[..., :4],
        lambda x: x[:0],
        lambda x: x.to("meta"),
        lambda x: torch.cat((x, x), 1).contiguous(memory_format=torch.channels_last),
    ],
    ids=["nchw", "columns", "no image", "meta", "other channels"],
)
def test_images_that_are_computed_as_drawn(change):
    layer = made("usual")
    assert not is_for(layer, change(images(layer)))


def test_autocast_is_computed_as_drawn():
    layer = made("usual", torch.float32)
    x = images(layer, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_for(layer, x)
        assert layer(x).dtype == torch.bfloat16


def test_one_value_a_channel_is_refused_by_the_norm():
    layer = made("usual")
    x = images(layer)[:1, :, :1, :1].contiguous(memory_format=torch.channels_last)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        layer(x)


def test_few_values_are_computed_as_drawn(monkeypatch):
    monkeypatch.setattr(bsconv_training, "FEWEST_VALUES", FEWEST_VALUES)
    layer = made("usual", torch.float32)
    assert not is_for(layer, images(layer, torch.float32))
    many = torch.randn(FEWEST_VALUES // 16 + 1, 16, 1, 1).contiguous(memory_format=torch.channels_last)
    assert is_for(layer, many)
