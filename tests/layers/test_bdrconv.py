import pytest
import torch
from torch import nn

from efficientconv.layers import BDRConv2d


def fill(parameter: torch.Tensor, *values: float) -> None:
    with torch.no_grad():
        parameter.copy_(torch.tensor(values).view(parameter.shape))


def by_hand(kernel_size: int = 1, stride: int = 1) -> BDRConv2d:
    """2 → 2 channels; batch norms that do nothing, and a squeeze-excitation of 1/2."""
    layer = BDRConv2d(2, 2, kernel_size, stride, kernel_size // 2).eval()
    layer.bn1.eps = layer.bn2.eps = 0.0
    fill(layer.main_conv.weight, 2)
    fill(layer.expand.weight, 1, 3)
    nn.init.ones_(layer.diversity_conv.weight)
    nn.init.zeros_(layer.se.fc2.weight)
    nn.init.zeros_(layer.se.fc2.bias)
    return layer


def test_by_hand():
    x = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1)
    # intrinsic 2·1, expanded 2 and 6, diverse 1 + 2 + 6; halved and the expanded ones added
    assert by_hand()(x).flatten().tolist() == [2 / 2 + 2, 9 / 2 + 6]


def test_odd_size_at_stride_2_by_hand():
    x = torch.zeros(1, 2, 3, 3)
    x[0, 0] = torch.arange(9.0).view(3, 3)
    y = by_hand(kernel_size=3, stride=2)(x)
    assert y[0, 0].flatten().tolist() == [0, 2, 6, 8]  # half of twice every other pixel
    assert y[0, 1].flatten().tolist() == [(2 + 3.5 + 6.5 + 8) / 2] * 4  # half of the sum of the pooled ones


@pytest.mark.parametrize(("main_kernel_size", "area"), [(1, 1), (3, 9), ((1, 3), 3)])
def test_parameter_count(main_kernel_size, area):
    m = e = 32
    a = n = 64
    o, hidden = 128, 8
    expected = m * a * area + e * o + (m + o) // m * n * 9 + 2 * (m + o) + 2 * o + 2 * o * hidden + hidden + o
    layer = BDRConv2d(64, 128, 3, padding=1, main_kernel_size=main_kernel_size)
    assert sum(parameter.numel() for parameter in layer.parameters()) == expected


def test_squeeze_excitation_is_at_least_two_wide():
    assert BDRConv2d(8, 8, 3, padding=1).se.fc1.out_features == 2
    assert BDRConv2d(64, 64, 3, padding=1, reduction=4).se.fc1.out_features == 16


def test_dilation_spreads_both_convolutions():
    layer = BDRConv2d(8, 8, 3, padding=2, dilation=2, main_kernel_size=3)
    assert (layer.main_conv.dilation, layer.main_conv.padding) == ((2, 2), (2, 2))
    assert (layer.diversity_conv.dilation, layer.diversity_conv.padding) == ((2, 2), (2, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"in_channels": 64, "out_channels": 32},
            r"out_channels=32: out_ratio=2 must divide it, .* = 32, must divide both .*; out_channels=64 would fit",
        ),
        (
            {"in_channels": 16, "out_channels": 24},
            r"out_channels=24: .* out_channels=16 or out_channels=32 or in_ratio=4 would fit",
        ),
        ({"in_channels": 1, "in_ratio": 2}, "in_ratio=2: must be at most in_channels=1, or no channel is expanded"),
        ({"in_ratio": 1}, "in_ratio=1: must be a whole number of at least 2"),
        ({"out_ratio": 1, "expansion": 1}, "out_ratio=1: must be a whole number of at least 2"),
        ({"expansion": 3}, "expansion=3: .* expansion=2, equal to out_ratio, would fit"),
        ({"main_kernel_size": 2}, r"main_kernel_size=2: must be odd; \(3, 3\) would fit"),
        ({"main_kernel_size": 0}, "main_kernel_size=0: one or two whole numbers of at least 1"),
        ({"reduction": 0}, "reduction=0: must be a whole number of at least 1"),
        ({"groups": 2}, "groups=2: BDRConv2d is defined for groups=1 only"),
        ({"padding": 0}, r"padding=\(0, 0\): BDRConv2d needs .* padding=\(1, 1\) would fit"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        BDRConv2d(**{"in_channels": 8, "out_channels": 8, "kernel_size": 3, "padding": 1, **arguments})


@pytest.mark.parametrize("arguments", [(64, 64, 2), (16, 16, 2), (16, 32, 2), (16, 24, 4)])
def test_what_the_messages_advise_fits(arguments):
    in_channels, out_channels, in_ratio = arguments
    layer = BDRConv2d(in_channels, out_channels, 3, padding=1, in_ratio=in_ratio)
    assert layer(torch.randn(2, in_channels, 4, 4)).shape == (2, out_channels, 4, 4)
