"""What BSConv-S's forms in training are both held to."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from efficientconv.layers import BSConvS

LAYERS_WITH_SOMETHING_ELSE = {
    "eval": lambda layer: layer.eval(),
    "frozen statistics": lambda layer: layer.bn1.eval(),
    "hook": lambda layer: layer.pw2.register_forward_hook(lambda *_: None),
    "other norm": lambda layer: setattr(layer, "bn2", nn.SyncBatchNorm(16)),
    "no statistics": lambda layer: setattr(layer, "bn1", nn.BatchNorm2d(4, track_running_stats=False)),
    "weight norm": lambda layer: nn.utils.parametrizations.weight_norm(layer.pw1),
}
"""Changes of a layer of 16 channels, after each of which it is computed as drawn."""


def with_norms(layer: BSConvS, *, averages: bool = False) -> BSConvS:
    """Return ``layer``, channels last, with batch norms that scale and shift."""
    for norm in (layer.bn1, layer.bn2):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -1, 1)
        norm.momentum = None if averages else 0.1
    return layer.to(memory_format=torch.channels_last)


def large_mean(layer: BSConvS, x: Tensor) -> None:
    x.data.add_(200)


@torch.no_grad()
def cancelling_channels(layer: BSConvS, x: Tensor) -> None:
    """Make what the second convolution adds up a thousandth of what it is added up from."""
    x[:, 1:] = x[:, :1] + 0.001 * x[:, 1:]
    layer.pw1.weight.abs_()
    layer.bn1.weight.fill_(1)
    layer.pw2.weight[0] = 1
    layer.pw2.weight[0, 0] = -3


def assert_statistics_keep_their_digits(layer: BSConvS, x: Tensor, drawn: type[AbstractContextManager]) -> None:
    """Compare a layer in float32 with the drawn one, and its statistics with those in double precision."""
    plain, exact = copy.deepcopy(layer), copy.deepcopy(layer).double()
    found = layer(x)
    with drawn():
        drawn_plainly, expected = plain(x), exact(x.double())
    assert (found - expected).abs().max() <= 2 * (drawn_plainly - expected).abs().max()
    for name, statistic in exact.named_buffers():
        torch.testing.assert_close(layer.get_buffer(name).double(), statistic.double(), rtol=1e-5, atol=1e-5)


def assert_first_bias_moves_the_second_mean(layer: BSConvS, x: Tensor) -> None:
    """Check that the bias of the first norm has a gradient of zero, and goes into the second one's running mean."""
    nn.init.constant_(layer.bn1.bias, 2)
    layer(x).square().sum().backward()
    assert layer.bn1.bias.grad.tolist() == [0] * 4
    torch.testing.assert_close(layer.bn2.running_mean, 0.1 * 2 * layer.pw2.weight.flatten(1).sum(1))
