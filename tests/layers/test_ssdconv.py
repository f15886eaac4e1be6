import math

import pytest
import torch
from torch import nn

from efficientconv.layers import SSDConv2d


def fill(parameter: torch.Tensor, *values: float) -> None:
    with torch.no_grad():
        parameter.copy_(torch.tensor(values).view(parameter.shape))


def by_hand(stride: int = 1, kernel_size: int = 1) -> SSDConv2d:
    """2 → 2 channels, 1 main and 1 expanded to x₁ and −x₁; the diverse channel is the first of these.

    Batch norms that do nothing, and an attention of sigmoid(what describes the channel).
    """
    layer = SSDConv2d(2, 2, kernel_size, stride, kernel_size // 2, in_ratio=0.5).eval()
    layer.bn1.eps = layer.bn2.eps = 0.0
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    for norm in (layer.bn1, layer.bn2):
        nn.init.ones_(norm.weight)
    centre = kernel_size // 2
    with torch.no_grad():
        layer.base_conv.weight[0, 0, centre, centre] = 1
        layer.diversity_conv.weight[0, 1, centre, centre] = 1
    fill(layer.expand.weight, 1, -1)
    fill(layer.se.fc1.weight, 1, 0, 0, 1)
    fill(layer.se.fc2.weight, 1, 0, 0, 1)
    return layer


def test_by_hand():
    log3 = math.log(3)
    x = torch.tensor([[0, log3], [log3, 0]]).view(1, 2, 1, 2)
    # softmax over the pixels: (1, 3)/4 and (3, 1)/4, of cosine 6/10; 1 − s = 1 − ((1 + 1)/2 + (1 + 0.6)/2)/2 = 0.1
    attention = 1 / (1 + math.exp(-0.1 * log3 / 2))
    expected = torch.tensor([[log3, attention * log3], [attention * log3 - log3, 0]])
    torch.testing.assert_close(by_hand()(x).view(2, 2), expected)


def test_channels_that_resemble_all_others_get_nothing_but_the_biases():
    layer = by_hand()
    fill(layer.se.fc2.bias, 0, math.log(3))
    x = torch.tensor([8.0, 4.0]).view(1, 2, 1, 1)  # of one pixel: every cosine is 1
    torch.testing.assert_close(layer(x).flatten(), torch.tensor([8 * 0.5 + 4, 4 * 0.75 - 4]))


def test_odd_size_at_stride_2_by_hand():
    layer = by_hand(stride=2, kernel_size=3)
    nn.init.zeros_(layer.se.fc1.weight)  # attention 1/2
    x = torch.arange(9.0).view(1, 1, 3, 3).expand(1, 2, 3, 3)
    pooled = torch.tensor([2, 3.5, 6.5, 8])
    y = layer(x).view(2, 4)
    torch.testing.assert_close(y[0], torch.tensor([0.0, 2, 6, 8]) / 2 + pooled)  # every other pixel, halved
    torch.testing.assert_close(y[1], pooled / 2 - pooled)


@pytest.mark.parametrize(
    ("in_channels", "out_channels", "in_ratio", "expansion", "main", "groups"),
    [(64, 128, 0.7, 2, 45, 1), (64, 128, 0.5, 2, 32, 32), (16, 16, 0.75, 2, 12, 4), (64, 64, 0.5, 4, 32, 32)],
)
def test_parameter_count(in_channels, out_channels, in_ratio, expansion, main, groups):
    base = diverse = out_channels // 2
    e, hidden = diverse * expansion, max(2, out_channels // 16)
    expected = main * base * 9 + (in_channels - main) * e + (main + e) // groups * diverse * 9
    expected += 2 * (main + e) + 2 * out_channels + 2 * out_channels * hidden + hidden + out_channels
    if e != out_channels:
        expected += e // base * out_channels
    layer = SSDConv2d(in_channels, out_channels, 3, padding=1, in_ratio=in_ratio, expansion=expansion)
    assert sum(parameter.numel() for parameter in layer.parameters()) == expected


def test_dilation_spreads_both_convolutions():
    layer = SSDConv2d(8, 8, 3, padding=2, dilation=2)
    assert (layer.base_conv.dilation, layer.base_conv.padding) == ((2, 2), (2, 2))
    assert (layer.diversity_conv.dilation, layer.diversity_conv.padding) == ((2, 2), (2, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"in_channels": 3},
            r"in_ratio=0.7: ⌈in_channels·in_ratio⌉ = 3 of in_channels=3 must lie between 1 and 2; "
            r"from above 0 to 0.6666 would fit",
        ),
        ({"in_channels": 1}, "in_ratio=0.7: .* no in_ratio would fit"),
        ({"in_ratio": 1.0}, "in_ratio=1.0: .* = 8 of in_channels=8 .* from above 0 to 0.875 would fit"),
        ({"in_ratio": 0.0}, "in_ratio=0.0: .* = 0 of in_channels=8 must lie between 1 and 7"),
        ({"out_ratio": 1.0}, "out_ratio=1.0: .* = 8 of out_channels=8 .* from above 0 to 0.875 would fit"),
        ({"out_channels": 5}, "out_channels=5: the 4 expanded channels .* 3 base channels; an even out_channels with"),
        ({"out_ratio": 0.75}, "out_channels=8: the 4 expanded channels .* out_ratio=0.5 and expansion=2 would fit"),
        ({"expansion": 0}, "expansion=0: must be a whole number of at least 1"),
        ({"reduction": 0}, "reduction=0: must be a whole number of at least 1"),
        ({"groups": 2}, "groups=2: SSDConv2d is defined for groups=1 only"),
        ({"padding": 0}, r"padding=\(0, 0\): SSDConv2d needs .* padding=\(1, 1\) would fit"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        SSDConv2d(**{"in_channels": 8, "out_channels": 8, "kernel_size": 3, "padding": 1, **arguments})


@pytest.mark.parametrize(("in_channels", "in_ratio"), [(3, 0.6666), (8, 0.875)])
def test_what_the_messages_advise_fits(in_channels, in_ratio):
    assert SSDConv2d(in_channels, 8, 3, padding=1, in_ratio=in_ratio).split == (in_channels - 1, 1)
