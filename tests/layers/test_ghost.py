import pytest
import torch

from efficientconv.layers import GhostConv2d

X = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])


def fill(parameter: torch.Tensor, *values: float) -> None:
    with torch.no_grad():
        parameter.copy_(torch.tensor(values).view(parameter.shape))


def by_hand(**arguments) -> GhostConv2d:
    """1 → 3 channels: 2x and 3x are intrinsic, and the third adds up the nine pixels around in the first."""
    layer = GhostConv2d(1, 3, 1, **arguments).eval()
    fill(layer.primary.weight, 2, 3)
    fill(layer.cheap.weight, *[1] * 9, *[5] * 9)
    return layer


def test_by_hand():
    y = by_hand(bias=False)(X)
    assert y.flatten().tolist() == [2, 4, 6, 8, 3, 6, 9, 12, 20, 20, 20, 20]


def test_every_output_channel_has_a_bias():
    layer = by_hand()
    fill(layer.primary.bias, 10, 20)
    fill(layer.cheap.bias, 30, 40)
    assert layer.bias is layer.primary.bias
    y = layer(X)
    assert y[0, :, 0, 0].tolist() == [12, 23, 20 + 4 * 10 + 30]


def test_batch_norms_stand_behind_both_convolutions():
    layer = by_hand(with_bn=True)
    layer.bn1.eps = layer.bn2.eps = 0.0
    fill(layer.bn1.bias, 10, 20)
    fill(layer.bn2.weight, 2, 2)
    assert layer(X)[0, :, 0, 0].tolist() == [12, 23, 2 * (20 + 4 * 10)]


def test_only_the_primary_convolution_strides():
    layer = by_hand(bias=False, stride=2)
    assert layer(torch.arange(9.0).view(1, 1, 3, 3))[0, 2].flatten().tolist() == [2 * (0 + 2 + 6 + 8)] * 4


@pytest.mark.parametrize(
    ("out_channels", "ratio", "cheap_kernel_size", "intrinsic"), [(128, 2, 3, 64), (64, 3, 3, 22), (64, 5, 1, 13)]
)
def test_parameter_count(out_channels, ratio, cheap_kernel_size, intrinsic):
    layer = GhostConv2d(64, out_channels, 3, bias=False, ratio=ratio, cheap_kernel_size=cheap_kernel_size)
    expected = 9 * 64 * intrinsic + cheap_kernel_size**2 * intrinsic * (ratio - 1)
    assert sum(parameter.numel() for parameter in layer.parameters()) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ratio": 1}, "ratio=1: must be a whole number of at least 2"),
        ({"ratio": 2.5}, "ratio=2.5: must be a whole number of at least 2"),
        ({"cheap_kernel_size": 4}, "cheap_kernel_size=4: must be odd; 3 or 5 would fit"),
        ({"cheap_kernel_size": 0}, "cheap_kernel_size=0: must be a whole number of at least 1"),
        ({"groups": 2}, "groups=2: GhostConv2d is defined for groups=1 only"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        GhostConv2d(8, 8, 3, **arguments)
