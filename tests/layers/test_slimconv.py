import pytest
import torch
from torch import nn

from efficientconv.layers import SlimConv2d


def plain(channels: int = 32, **kwargs) -> SlimConv2d:
    """Build one with weights of 1, batch norms that do nothing and a gate of 1/2."""
    layer = SlimConv2d(channels, channels, 3, padding=1, **kwargs).eval()
    for module in layer.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
        elif isinstance(module, nn.Conv2d):
            nn.init.ones_(module.weight)
    nn.init.zeros_(layer.gate[3].weight)
    nn.init.zeros_(layer.gate[3].bias)
    return layer


def test_by_hand():
    y = plain()(torch.ones(1, 32, 1, 1))
    # ½ + ½ in 16 channels: their sum, and the sum of 8 sums
    assert y.flatten().tolist() == [16] * 16 + [128] * 8


def test_second_path_sees_the_weights_flipped():
    layer = plain()
    layer.gate[3].bias.data[:] = -1e4
    layer.gate[3].bias.data[0] = 1e4  # a weight of 1 for the first channel, 0 for the others
    y = layer(torch.arange(1.0, 33).view(1, 32, 1, 1)).flatten()
    assert y.tolist() == [1] * 16 + [32 * 8] * 8


def test_first_path_folds_the_parts_in_order():
    layer = plain(36, num_splits=3)
    with torch.no_grad():
        layer.path1[0].weight.zero_()
        layer.path1[0].weight[:, :, 1, 1] = torch.eye(12)
    y = layer(torch.arange(36.0).view(1, 36, 1, 1)).flatten()[:12]
    assert y.tolist() == [(c + c + 12 + c + 24) / 2 for c in range(12)]


def test_restored_by_hand():
    layer = plain(restore_width=True)
    nn.init.constant_(layer.path1[1].weight, -1)  # −16 in 16 channels, which the ReLU cuts off
    assert layer(torch.ones(1, 32, 1, 1)).flatten().tolist() == [8 * 128] * 32


@pytest.mark.parametrize(
    ("channels", "num_splits", "width"),
    [(64, 2, 48), (64, 3, 31), (64, 4, 24), (64, 5, 18), (64, 6, 15), (64, 7, 13), (64, 8, 12), (33, 2, 24)],
)
def test_width(channels, num_splits, width):
    layer = SlimConv2d(channels, channels, 3, padding=1, num_splits=num_splits)
    assert layer.out_channels == layer(torch.randn(2, channels, 4, 4)).shape[1] == width
    restored = SlimConv2d(channels, channels, 3, padding=1, num_splits=num_splits, restore_width=True)
    assert restored.out_channels == channels


def test_channels_of_the_remainder_are_left_out():
    layer, x = plain(33), torch.ones(1, 33, 2, 2)
    y = layer(x)
    x[:, 32] = 100
    assert torch.equal(layer(x), y)


def test_second_path_has_half_the_groups():
    layer = SlimConv2d(96, 96, 3, padding=1, groups=32, num_splits=3)
    assert (layer.path1[0].groups, layer.path2[3].groups) == (32, 16)


def test_second_path_may_have_all_groups_as_in_the_authors_code():
    layer = SlimConv2d(128, 128, 3, padding=1, groups=32, second_path_groups=32)
    assert (layer.path1[0].groups, layer.path2[3].groups) == (32, 32)


@pytest.mark.parametrize(("channels", "num_splits"), [(64, 2), (256, 4), (96, 3)])
def test_parameter_count(channels, num_splits):
    a, b, hidden = channels // num_splits, channels // (2 * num_splits), channels // 32
    gate = 2 * channels * hidden + 2 * hidden + channels
    expected = gate + 9 * a * a + 2 * a + a * b + 2 * b + 9 * b * b + 2 * b
    layer = SlimConv2d(channels, channels, 3, padding=1, num_splits=num_splits)
    assert sum(parameter.numel() for parameter in layer.parameters()) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"out_channels": 32}, "out_channels=32: must equal in_channels=64"),
        ({"in_channels": 16, "out_channels": 16}, "in_channels=16: must be at least 32, the gate's reduction"),
        ({"num_splits": 1}, "num_splits=1: must be a whole number of at least 2"),
        ({"num_splits": 33}, "num_splits=33: must be at most in_channels/2 = 32"),
        ({"groups": 64}, r"groups=64: must divide .* in_channels//num_splits = 32 channels, .* 16; groups=1 would fit"),
        (
            {"in_channels": 96, "out_channels": 96, "groups": 32},
            "groups=32: must divide the first path's .* = 48 channels, .* 24; num_splits=3 would fit",
        ),
        (
            {"in_channels": 96, "out_channels": 96, "groups": 32, "second_path_groups": 8},
            "groups=32: must divide first_path_channels=48; 1 or .* or 48 would fit",
        ),
        (
            {"groups": 32, "second_path_groups": 32},
            "second_path_groups=32: must divide second_path_channels=16; 1 or .* or 16 would fit",
        ),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        SlimConv2d(**{"in_channels": 64, "out_channels": 64, "kernel_size": 3, "padding": 1, **arguments})
