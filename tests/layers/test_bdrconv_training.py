"""The training step as one operator computes what the drawn layer does, and leaves the layer to itself elsewhere."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck

from efficientconv.layers import BDRConv2d
from efficientconv.layers.bdrconv_training import runs_as_one, training_step

GEOMETRIES = {
    "usual": partial(BDRConv2d, 8, 8, 3, padding=1),
    "dilated": partial(BDRConv2d, 4, 4, 3, padding=2, dilation=2),
    "5×3": partial(BDRConv2d, 4, 4, (5, 3), padding=(2, 1)),
    "1×1": partial(BDRConv2d, 4, 4, 1),
    "ratios": partial(BDRConv2d, 12, 18, 3, padding=1, in_ratio=4),  # 9 groups of 3, of 9 main and 18 expanded channels
    "averaging": partial(BDRConv2d, 4, 4, 3, padding=1),
}


def made(name: str, dtype: torch.dtype = torch.float64) -> BDRConv2d:
    """Return a layer whose batch norms scale and shift."""
    torch.manual_seed(0)
    layer = GEOMETRIES[name](dtype=dtype).to(memory_format=torch.channels_last)
    for norm in (layer.bn1, layer.bn2):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -1, 1)
        norm.momentum = None if name == "averaging" else 0.1
    return layer


def images(layer: BDRConv2d, dtype: torch.dtype = torch.float64) -> Tensor:
    x = torch.randn(3, layer.in_channels, 6, 5, dtype=dtype) * 2 + 1
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_output_gradients_and_statistics_are_those_of_the_drawn_layer(name, dtype, tolerance, drawn, assert_as_drawn):
    layer = made(name, dtype)
    x = images(layer, dtype)
    assert runs_as_one(layer, x)
    with drawn():
        assert not runs_as_one(layer, x)
    assert_as_drawn(layer, x, tolerance)


@pytest.mark.parametrize("name", ["usual", "dilated", "ratios"])
def test_gradients(name):
    layer = made(name)
    x = images(layer)[:2, :, :3, :3].detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    assert gradcheck(lambda x, *parameters: training_step(layer, x), (x, *layer.parameters()), fast_mode=True)


def test_gradients_of_a_gradient_are_refused(assert_refuses_second_gradient):
    layer = made("usual")
    assert_refuses_second_gradient(layer, images(layer))


def test_gradients_that_nobody_asks_for():
    layer = made("usual")
    layer.expand.requires_grad_(False)
    layer(images(layer).detach()).sum().backward()  # of the sum the gradient is one number, expanded
    assert layer.expand.weight.grad is None
    assert layer.main_conv.weight.grad.abs().sum() > 0
    with torch.no_grad():
        assert not layer(images(layer)).requires_grad


@pytest.mark.parametrize(
    "change",
    [
        lambda layer, x: layer.eval(),
        lambda layer, x: layer.bn1.eval(),
        lambda layer, x: layer.se.fc1.register_forward_hook(lambda *_: None),
        lambda layer, x: setattr(layer, "bn2", nn.SyncBatchNorm(8)),
        lambda layer, x: nn.utils.parametrizations.weight_norm(layer.expand),
    ],
    ids=["eval", "frozen statistics", "hook", "other norm", "weight norm"],
)
def test_other_layers_run_as_they_are_drawn(change):
    layer = made("usual")
    x = images(layer)
    change(layer, x)
    assert not runs_as_one(layer, x)


@pytest.mark.parametrize(
    "arguments",
    [
        {"stride": 2},
        {"out_channels": 16},
        {"padding_mode": "circular"},
        {"main_kernel_size": 3},
    ],
)
def test_other_geometries_run_as_they_are_drawn(arguments):
    layer = BDRConv2d(**{"in_channels": 8, "out_channels": 8, "kernel_size": 3, "padding": 1, **arguments})
    assert not runs_as_one(layer, images(layer, torch.float32))


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.contiguous(memory_format=torch.contiguous_format),
        lambda x: x[..., :4],
        lambda x: x[:1, :, :1, :1].contiguous(memory_format=torch.channels_last),
        lambda x: x.to("meta"),
        lambda x: torch.cat((x, x), 1).contiguous(memory_format=torch.channels_last),
    ],
    ids=["nchw", "columns", "one value", "meta", "other channels"],
)
def test_other_inputs_run_as_they_are_drawn(change):
    layer = made("usual")
    assert not runs_as_one(layer, change(images(layer)))
