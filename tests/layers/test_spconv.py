import pytest
import torch

from efficientconv.layers import SPConv2d


def fill(parameter: torch.Tensor, *values: float) -> None:
    with torch.no_grad():
        parameter.copy_(torch.tensor(values).view(parameter.shape))


def by_hand(stride: int = 1) -> SPConv2d:
    """4 → 2 channels: the k×k adds nine pixels up, its 1×1 the two channels, the other 1×1 adds 0 and 10."""
    layer = SPConv2d(4, 2, 3, stride, 1).eval()
    layer.bn1.eps = layer.bn2.eps = 0.0
    fill(layer.gwc.weight, *[1] * 18)
    fill(layer.pwc.weight, 1, 1, 1, 1)
    fill(layer.conv1x1.weight, 1, 0, 0, 1)
    fill(layer.conv1x1.bias, 0, 10)
    return layer


def test_by_hand():
    x = torch.tensor([1.0, 2, 3, 4]).view(1, 4, 1, 1).expand(1, 4, 2, 2)
    # y₁ = 4·1 + 3 and 4·2 + 3, y₂ = 3 and 4 + 10, everywhere
    beta = torch.softmax(torch.tensor([[7.0, 11.0], [3.0, 14.0]]), 0)
    expected = beta[0] * torch.tensor([7.0, 11.0]) + beta[1] * torch.tensor([3.0, 14.0])
    torch.testing.assert_close(by_hand()(x), expected.view(1, 2, 1, 1).expand(1, 2, 2, 2))


def test_equal_means_are_halved():
    x = torch.tensor([1.0, 2, 7, 1]).view(1, 4, 1, 1).expand(1, 4, 2, 2)
    assert by_hand()(x).flatten().tolist() == [7] * 4 + [11] * 4


def test_pooled_windows_at_an_odd_border_by_hand():
    layer = by_hand(stride=2)
    fill(layer.gwc.weight, *[0] * 18)
    x = torch.zeros(1, 4, 3, 3)
    x[0, 0] = x[0, 2] = torch.arange(9.0).view(3, 3)  # windows of averages 2, 3.5 / 6.5, 8 in both parts
    fill(layer.conv1x1.bias, 0, 0)
    assert layer(x)[0, 0].flatten().tolist() == [2, 3.5, 6.5, 8]


@pytest.mark.parametrize("alpha", [0.5, 0.25, 0.125, 0.0625])
def test_parameter_count(alpha):
    count = sum(parameter.numel() for parameter in SPConv2d(64, 64, 3, padding=1, alpha=alpha).parameters())
    assert count == 64**2 * (1 + 4.5 * alpha) + 5 * 64


def test_split_is_truncated():
    assert SPConv2d(14, 4, 3, padding=1, alpha=0.2).split == (2, 12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": 30, "alpha": 0.25}, r"alpha=0.25: .* = 7 of in_channels=30 .* alpha=0.2667 \(8\) would fit"),
        ({"in_channels": 16, "alpha": 0.0625}, r"= 1 of in_channels=16 .* alpha=0.125 \(2\) would fit"),
        ({"in_channels": 3, "alpha": 0.25}, r"= 0 of in_channels=3 .* alpha=0.6667 \(2\) would fit"),
        ({"in_channels": 8, "alpha": 1}, r"= 8 of in_channels=8 .* alpha=0.75 \(6\) would fit"),
        ({"in_channels": 2, "alpha": 0.5}, "no alpha would fit"),
        ({"out_channels": 3}, "gwc_groups=2: must divide out_channels=3"),
        ({"gwc_groups": 0}, "gwc_groups=0: must be a whole number of at least 1"),
        ({"groups": 2}, "groups=2: SPConv2d is defined for groups=1 only"),
        ({"padding": 0}, r"padding=\(0, 0\): SPConv2d needs .* padding=\(1, 1\) would fit"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        SPConv2d(**{"in_channels": 8, "out_channels": 8, "kernel_size": 3, "padding": 1, **arguments})


@pytest.mark.parametrize(("in_channels", "alpha"), [(30, 0.2667), (16, 0.125), (3, 0.6667), (8, 0.75)])
def test_what_the_messages_advise_fits(in_channels, alpha):
    assert SPConv2d(in_channels, 8, 3, padding=1, alpha=alpha).split[0] % 2 == 0
