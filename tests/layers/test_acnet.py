import pytest
import torch
from torch import nn

from efficientconv.layers import ACConv2d


def by_hand() -> ACConv2d:
    """1 → 1 channel; square kernel of 1, vertical of 10, horizontal of 100; batch norms that add one."""
    layer = ACConv2d(1, 1, 3, padding=1).eval()
    for branch, value in ((layer.square, 1), (layer.vertical, 10), (layer.horizontal, 100)):
        nn.init.constant_(branch.conv.weight, value)
        nn.init.ones_(branch.bn.bias)
        branch.bn.eps = 0.0
    return layer


def test_by_hand():
    y = by_hand()(torch.ones(1, 1, 3, 3))
    assert y[0, 0].tolist() == [[227, 329, 227], [239, 342, 239], [227, 329, 227]]  # pixels in reach of each, and 3


def test_folded_kernel_by_hand():
    folded = by_hand().fold()
    assert type(folded) is nn.Conv2d
    assert folded.weight[0, 0].tolist() == [[1, 11, 1], [101, 111, 101], [1, 11, 1]]
    assert folded.bias.item() == 3


@pytest.mark.parametrize(
    ("geometry", "mode"),
    [({"stride": 2}, "zeros"), ({"groups": 4}, "reflect"), ({"kernel_size": (5, 3), "padding": (2, 1)}, "circular")],
)
def test_folds_to_one_convolution_after_training_steps(geometry, mode):
    torch.manual_seed(0)
    layer = ACConv2d(
        **{"in_channels": 8, "out_channels": 12, "kernel_size": 3, "padding": 1, **geometry}, padding_mode=mode
    )
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.05)
    for _ in range(5):
        optimizer.zero_grad()
        layer(torch.randn(4, 8, 6, 6).abs() + 1).square().mean().backward()
        optimizer.step()
    x = torch.randn(4, 8, 7, 6)
    y = layer.eval()(x)
    assert (layer.fold()(x) - y).abs().max() <= 1e-5 * max(1, y.abs().max())


def test_parameter_count_in_training_and_after():
    layer = ACConv2d(8, 16, (3, 5), padding=(1, 2), groups=2)
    assert sum(parameter.numel() for parameter in layer.parameters()) == 4 * 16 * (15 + 3 + 5) + 3 * 32
    assert sum(parameter.numel() for parameter in layer.fold().parameters()) == 4 * 16 * 15 + 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": 4}, r"kernel_size=\(4, 4\): ACConv2d needs odd kernels, .* \(5, 5\) would fit"),
        ({"padding": 2}, r"padding=\(2, 2\): ACConv2d needs .* padding=\(1, 1\) would fit"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        ACConv2d(**{"in_channels": 8, "out_channels": 8, "kernel_size": 3, "padding": 1, **arguments})
