import pytest
import torch
from torch import nn

from efficientconv.layers import PConv2d


def test_by_hand():
    layer = PConv2d(4, 4, 3, padding=1)
    nn.init.ones_(layer.conv.weight)
    nn.init.constant_(layer.conv.bias, 10)
    x = torch.ones(1, 4, 3, 3)
    y = layer(x)
    assert y[0, 0].tolist() == [[14, 16, 14], [16, 19, 16], [14, 16, 14]]  # ones within reach, and the bias
    assert torch.equal(y[:, 1:], x[:, 1:])


def test_input_stays_as_it_was():
    x = torch.randn(1, 4, 3, 3)
    before = x.clone()
    PConv2d(4, 4, 3, padding=1)(x).zero_()
    assert torch.equal(x, before)


@pytest.mark.parametrize(("channels", "n_div", "convolved"), [(40, 4, 10), (10, 4, 2), (3, 2, 1), (4, 1, 4), (4, 4, 1)])
def test_parameter_count(channels, n_div, convolved):
    layer = PConv2d(channels, channels, 3, padding=1, bias=False, n_div=n_div)
    assert sum(parameter.numel() for parameter in layer.parameters()) == 9 * convolved**2
    assert layer.split == (convolved, channels - convolved)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"out_channels": 16}, "out_channels=16: PConv2d hands channels through, .* 8 would fit"),
        ({"stride": 2}, r"stride=\(2, 2\): PConv2d hands channels through as they are; 1 would fit"),
        ({"n_div": 9}, "n_div=9: leaves none of in_channels=8 to convolve; at most 8 would fit"),
        ({"n_div": 0}, "n_div=0: must be a whole number of at least 1"),
        ({"groups": 2}, "groups=2: PConv2d is defined for groups=1 only"),
        ({"padding": 0}, r"padding=\(0, 0\): PConv2d needs .* padding=\(1, 1\) would fit"),
        ({"kernel_size": 2, "padding": 0}, "an odd kernel_size would fit"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        PConv2d(**{"in_channels": 8, "out_channels": 8, "kernel_size": 3, "padding": 1, **arguments})
