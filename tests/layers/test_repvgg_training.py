"""The training step with one product computes what the drawn layer does, and leaves the layer to itself elsewhere."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck

from efficientconv.layers import RepVGGConv2d
from efficientconv.layers.repvgg_training import WIDEST, training_step

GEOMETRIES = {
    "usual": partial(RepVGGConv2d, 6, 6, 3, padding=1),
    "wider": partial(RepVGGConv2d, 4, 6, 3, padding=1),
    "strided": partial(RepVGGConv2d, 6, 6, 3, stride=(2, 1), padding=1),
    "dilated": partial(RepVGGConv2d, 6, 6, 3, padding=2, dilation=2),
    "5×3, reflecting": partial(RepVGGConv2d, 6, 6, (5, 3), padding=(2, 1), padding_mode="reflect"),
    "averaging": partial(RepVGGConv2d, 6, 6, 3, padding=1),
}


def made(name: str, dtype: torch.dtype = torch.float64) -> RepVGGConv2d:
    """Return a layer whose batch norms scale and shift."""
    torch.manual_seed(0)
    layer = GEOMETRIES[name](dtype=dtype).to(memory_format=torch.channels_last)
    for norm in (module for module in layer.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -1, 1)
        norm.momentum = None if name == "averaging" else 0.1
    return layer


def images(layer: RepVGGConv2d, dtype: torch.dtype = torch.float64, mean: float = 1.0) -> Tensor:
    x = torch.randn(3, layer.in_channels, 6, 5, dtype=dtype) * 2 + mean
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_output_gradients_and_statistics_are_those_of_the_drawn_layer(name, dtype, tolerance, drawn, assert_as_drawn):
    layer = made(name, dtype)
    x = images(layer, dtype)
    assert training_step(copy.deepcopy(layer), x) is not None
    with drawn():
        assert training_step(layer, x) is None
    assert_as_drawn(layer, x, tolerance)


@pytest.mark.parametrize("name", ["usual", "wider", "strided"])
def test_gradients(name):
    layer = made(name)
    x = images(layer)[:2, :, :3, :3].detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    assert gradcheck(lambda x, *parameters: training_step(layer, x), (x, *layer.parameters()), fast_mode=True)


def test_gradients_that_nobody_asks_for():
    layer = made("usual")
    layer.identity.requires_grad_(False)
    layer(images(layer).detach()).sum().backward()  # of the sum the gradient is one number, expanded
    assert layer.identity.weight.grad is None
    assert layer.pointwise.conv.weight.grad is not None
    with torch.no_grad():
        assert not layer(images(layer)).requires_grad


def large_mean(layer: RepVGGConv2d, x: Tensor) -> None:
    x.data.add_(100)


def cancelling_kernel(layer: RepVGGConv2d, x: Tensor) -> None:
    x.data[:, 1:] = x.data[:, :1]
    nn.init.constant_(layer.pointwise.conv.weight, 1)
    nn.init.constant_(layer.pointwise.conv.weight[:, 0], -4.9)


@pytest.mark.parametrize("change", [large_mean, cancelling_kernel])
def test_variances_that_would_lose_digits_are_measured_as_drawn(change):
    layer = made("usual", torch.float32)
    x = images(layer, torch.float32)
    change(layer, x)
    before = copy.deepcopy(layer.state_dict())
    assert training_step(layer, x) is None
    torch.testing.assert_close(layer.state_dict(), before, rtol=0, atol=0)
    exact = copy.deepcopy(layer).double()(x.double())
    torch.testing.assert_close(layer(x).double(), exact, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.eval(),
        lambda layer: layer.identity.eval(),
        lambda layer: layer.pointwise.conv.register_forward_hook(lambda *_: None),
        lambda layer: setattr(layer.dense, "bn", nn.SyncBatchNorm(6)),
        lambda layer: nn.utils.parametrizations.weight_norm(layer.pointwise.conv),
    ],
    ids=["eval", "frozen statistics", "hook", "other norm", "weight norm"],
)
def test_layers_that_are_computed_as_drawn(change):
    layer = made("usual")
    change(layer)
    assert training_step(layer, images(layer)) is None


def test_images_that_are_computed_as_drawn():
    layer = made("usual")
    assert training_step(layer, images(layer).detach().contiguous()) is None
    wide = RepVGGConv2d(2 * WIDEST, 2 * WIDEST, 3, padding=1, dtype=torch.float64)
    assert training_step(wide, images(wide)) is None
