"""The training step in few passes computes what the drawn layer does, and leaves the layer to itself elsewhere."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck

from efficientconv.layers import SCConv2d
from efficientconv.layers.scconv_training import WIDEST, is_for, training_step

GEOMETRIES = {
    "usual": partial(SCConv2d, 16, 16, 3, padding=1),
    "wider, no bias": partial(SCConv2d, 8, 12, 3, padding=1, norm_groups=4, bias=False),
    "shares": partial(SCConv2d, 16, 16, 3, padding=1, alpha=0.25, gwc_groups=1, gate_threshold=0.4),
    "5×3, reflecting": partial(SCConv2d, 8, 8, (5, 3), padding=(2, 1), norm_groups=2, padding_mode="reflect"),
    "dilated": partial(SCConv2d, 8, 8, 3, padding=2, dilation=2, norm_groups=2),
}


def made(name: str, dtype: torch.dtype = torch.float64) -> SCConv2d:
    """Return a layer whose scores lie on both sides of the threshold."""
    torch.manual_seed(0)
    layer = GEOMETRIES[name](dtype=dtype)
    nn.init.uniform_(layer.norm.weight, 0.5, 1.5)
    nn.init.uniform_(layer.norm.bias, -1, 1)
    return layer


def images(layer: SCConv2d, dtype: torch.dtype = torch.float64) -> Tensor:
    return (torch.randn(3, layer.in_channels, 6, 5, dtype=dtype) * 2 + 1).requires_grad_()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_output_and_gradients_are_those_of_the_drawn_layer(
    name, memory_format, dtype, tolerance, drawn, assert_as_drawn
):
    layer = made(name, dtype).to(memory_format=memory_format)
    x = images(layer, dtype).detach().contiguous(memory_format=memory_format).requires_grad_()
    assert is_for(layer, x)
    with drawn():
        assert not is_for(layer, x)
    assert_as_drawn(layer, x, tolerance)


def test_gradients():
    layer = made("wider, no bias")
    x = images(layer)[:2, :, :3, :3].detach().requires_grad_()
    assert gradcheck(lambda x, *parameters: training_step(layer, x), (x, *layer.parameters()), fast_mode=True)


def test_gradients_of_a_gradient_are_refused(assert_refuses_second_gradient):
    layer = made("usual")
    assert_refuses_second_gradient(layer, images(layer))


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.eval(),
        lambda layer: layer.norm.register_forward_hook(lambda *_: None),
        lambda layer: nn.utils.parametrizations.weight_norm(layer.gwc),
    ],
    ids=["eval", "hook", "weight norm"],
)
def test_layers_that_are_computed_as_drawn(change):
    layer = made("usual")
    change(layer)
    assert not is_for(layer, images(layer))


def test_wide_and_even_layers_are_computed_as_drawn():
    wide = SCConv2d(2 * WIDEST, 2 * WIDEST, 3, padding=1)
    assert not is_for(wide, torch.randn(1, 2 * WIDEST, 4, 4))
    even = SCConv2d(16, 16, 2, padding=1, dilation=2)
    assert not is_for(even, torch.randn(1, 16, 4, 4))
