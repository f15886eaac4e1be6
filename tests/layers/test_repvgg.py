import pytest
import torch
from torch import nn

from efficientconv.layers import RepVGGConv2d


def by_hand(stride: int = 1) -> RepVGGConv2d:
    """1 → 1 channel; the 3×3 adds nine pixels up, the 1×1 takes ten of a pixel; batch norms that double and add one."""
    layer = RepVGGConv2d(1, 1, 3, stride, 1).eval()
    nn.init.ones_(layer.dense.conv.weight)
    nn.init.constant_(layer.pointwise.conv.weight, 10)
    for module in layer.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
            nn.init.constant_(module.weight, 2)
            nn.init.ones_(module.bias)
    return layer


def test_by_hand():
    y = by_hand()(torch.ones(1, 1, 3, 3))
    # twice the pixels in reach, 10 and 1, and three shifts of 1
    assert y[0, 0].tolist() == [[33, 37, 33], [37, 43, 37], [33, 37, 33]]


def test_stride_has_no_identity_by_hand():
    layer = by_hand(stride=2)
    assert layer.identity is None
    assert layer(torch.ones(1, 1, 3, 3)).flatten().tolist() == [2 * 4 + 20 + 2] * 4


def test_folded_kernel_by_hand():
    folded = by_hand().fold()
    assert type(folded) is nn.Conv2d
    assert folded.weight[0, 0].tolist() == [[2, 2, 2], [2, 24, 2], [2, 2, 2]]
    assert folded.bias.item() == 3


@pytest.mark.parametrize(
    ("channels", "stride", "identity"), [((8, 8), 1, True), ((8, 8), 2, False), ((8, 16), 1, False)]
)
def test_identity_where_the_shape_stays(channels, stride, identity):
    assert (RepVGGConv2d(*channels, 3, stride, 1).identity is not None) == identity


@pytest.mark.parametrize(("groups", "mode"), [(1, "zeros"), (2, "reflect"), (8, "circular")])
def test_folds_to_one_convolution_after_training_steps(groups, mode):
    torch.manual_seed(0)
    layer = RepVGGConv2d(8, 8, 3, padding=1, groups=groups, padding_mode=mode)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.05)
    for _ in range(5):
        optimizer.zero_grad()
        layer(torch.randn(4, 8, 6, 6).abs() + 1).square().mean().backward()
        optimizer.step()
    x = torch.randn(4, 8, 6, 6)
    y, folded = layer.eval()(x), layer.fold()
    assert (folded.groups, folded.padding_mode) == (groups, mode)
    assert (folded(x) - y).abs().max() <= 1e-5 * max(1, y.abs().max())


def test_parameter_count_in_training_and_after():
    layer = RepVGGConv2d(8, 8, 3, padding=1, groups=2)
    assert sum(parameter.numel() for parameter in layer.parameters()) == 4 * 8 * (9 + 1) + 3 * 16
    assert sum(parameter.numel() for parameter in layer.fold().parameters()) == 4 * 8 * 9 + 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": 2}, r"kernel_size=\(2, 2\): RepVGGConv2d needs odd kernels, .* \(3, 3\) would fit"),
        ({"kernel_size": (3, 4)}, r"kernel_size=\(3, 4\): .* \(3, 5\) would fit"),
        ({"padding": 0}, r"padding=\(0, 0\): RepVGGConv2d needs .* padding=\(1, 1\) would fit"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        RepVGGConv2d(**{"in_channels": 8, "out_channels": 8, "kernel_size": 3, "padding": 1, **arguments})
