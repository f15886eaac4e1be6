import pytest
import torch

from efficientconv.layers import DualConv2d


def fill(parameter: torch.Tensor, *values: float) -> None:
    with torch.no_grad():
        parameter.copy_(torch.tensor(values).view(parameter.shape))


def by_hand(stride: int = 1) -> DualConv2d:
    """2 → 2 channels: the nine pixels around in the own channel, plus ten times the pixel in the other."""
    layer = DualConv2d(2, 2, 3, stride, 1, gwc_groups=2)
    fill(layer.gwc.weight, *[1] * 18)
    fill(layer.gwc.bias, 100, 200)
    fill(layer.pwc.weight, 0, 10, 10, 0)
    return layer


def test_by_hand():
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[1.0, 1.0], [1.0, 1.0]]]])
    y = by_hand()(x)
    assert y[0, 0].flatten().tolist() == [100 + 10 + 10] * 4
    assert y[0, 1].flatten().tolist() == [200 + 4 + 10, 200 + 4 + 20, 200 + 4 + 30, 200 + 4 + 40]


def test_both_kernels_have_the_same_centres_at_stride_2():
    x = torch.zeros(1, 2, 3, 3)
    x[0, 1] = torch.arange(9.0).view(3, 3)
    assert by_hand(stride=2)(x)[0, 0].flatten().tolist() == [100 + 10 * pixel for pixel in (0, 2, 6, 8)]


@pytest.mark.parametrize("gwc_groups", [2, 4, 8, 16])
def test_parameter_count(gwc_groups):
    layer = DualConv2d(64, 128, 3, padding=1, bias=False, gwc_groups=gwc_groups)
    assert sum(parameter.numel() for parameter in layer.parameters()) == 64 * 128 * (9 / gwc_groups + 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gwc_groups": 3}, "gwc_groups=3: must divide in_channels=8 and out_channels=12; 1 or 2 or 4 would fit"),
        ({"gwc_groups": 8}, "gwc_groups=8: must divide in_channels=8 and out_channels=12; 1 or 2 or 4 would fit"),
        ({"gwc_groups": 0}, "gwc_groups=0: must be a whole number of at least 1"),
        ({"groups": 2}, "groups=2: DualConv2d is defined for groups=1 only"),
        ({"padding": 0}, r"padding=\(0, 0\): DualConv2d needs .* padding=\(1, 1\) would fit"),
        ({"kernel_size": 2}, "an odd kernel_size would fit"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        DualConv2d(**{"in_channels": 8, "out_channels": 12, "kernel_size": 3, "padding": 1, **arguments})
