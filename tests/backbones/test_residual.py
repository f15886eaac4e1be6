import pytest
import torch
from torch import nn

from efficientconv.backbones.residual import (
    PaddedShortcut,
    basic_unit_a,
    basic_unit_b,
    preact_basic_unit,
    preact_bottleneck,
)


def test_padded_shortcut_takes_every_second_pixel_and_adds_zeros():
    x = torch.arange(9.0).reshape(1, 1, 3, 3)
    y = PaddedShortcut(1, 2, stride=2)(x)
    assert torch.equal(y, torch.tensor([[[[0.0, 2], [6, 8]], [[0, 0], [0, 0]]]]))


def test_padded_shortcut_cannot_narrow():
    with pytest.raises(ValueError, match=r"^out_channels=3: a padded shortcut needs at least in_channels=4$"):
        PaddedShortcut(4, 3, stride=1)


@pytest.mark.parametrize("make", [basic_unit_a, basic_unit_b, preact_basic_unit, preact_bottleneck])
@pytest.mark.parametrize(("in_channels", "stride"), [(8, 1), (4, 1), (8, 2), (4, 2)])
def test_units_round_odd_sizes_up(make, in_channels, stride):
    x = torch.randn(2, in_channels, 7, 9)
    expected = (2, 8, 7, 9) if stride == 1 else (2, 8, 4, 5)
    assert make(in_channels, 8, stride)(x).shape == expected


@pytest.mark.parametrize(("make", "kind"), [(basic_unit_a, PaddedShortcut), (basic_unit_b, nn.Sequential)])
def test_shortcut_is_the_identity_where_the_shape_stays(make, kind):
    assert isinstance(make(8, 8, 1).shortcut, nn.Identity)
    assert isinstance(make(4, 8, 1).shortcut, kind)
    assert isinstance(make(8, 8, 2).shortcut, kind)


def silence(branch: nn.Module) -> None:
    for parameter in branch.parameters():
        nn.init.zeros_(parameter)


def test_basic_unit_adds_the_shortcut_before_the_last_relu():
    unit = basic_unit_b(2, 2, 1).eval()
    silence(unit.conv2)
    x = torch.randn(1, 2, 4, 4)
    assert torch.equal(unit(x), x.relu())


@pytest.mark.parametrize("make", [preact_basic_unit, preact_bottleneck])
def test_preactivation_unit_passes_its_input_through_unchanged(make):
    unit = make(4, 4, 1)
    silence(unit.branch)
    x = torch.randn(2, 4, 4, 4)
    assert torch.equal(unit(x), x)


def test_projection_of_a_preactivation_unit_sees_the_activated_input():
    unit = preact_basic_unit(2, 3, 2).eval()
    silence(unit.branch)
    x = torch.randn(1, 2, 4, 4)
    assert torch.equal(unit(x), unit.projection(unit.preactivation(x)))
    assert unit.projection.bias is None


def test_bottleneck_is_a_quarter_as_wide():
    branch = preact_bottleneck(16, 32, 2).branch
    convs = [module for module in branch.modules() if isinstance(module, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.kernel_size[0], c.stride[0]) for c in convs] == [
        (16, 8, 1, 1),
        (8, 8, 3, 2),
        (8, 32, 1, 1),
    ]
