import pytest
import torch
from torch import nn

from efficientconv.layers import SCConv2d


def fill(parameter: torch.Tensor, *values: float) -> None:
    with torch.no_grad():
        parameter.copy_(torch.tensor(values).view(parameter.shape))


IMAGES = (
    torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1).expand(2, 4, 1, 1)
)  # two, as torch refuses to norm one pixel


def by_hand(**kwargs) -> SCConv2d:
    """4 → 4 channels on 1×1 images, where the group norm of one group a channel gives its bias."""
    layer = SCConv2d(4, 4, 3, padding=1, norm_groups=4, gwc_groups=1, **kwargs)
    fill(layer.norm.weight, 1, 1, 1, 1)
    fill(layer.norm.bias, 4, 4, -1e6, -1e6)  # a score of 1, informative, and one whose sigmoid is 0
    fill(layer.squeeze1.weight, 1, 2)
    fill(layer.squeeze2.weight, 1, 1)
    nn.init.ones_(layer.gwc.weight)
    fill(layer.gwc.bias, 0, 1, 2, 3)
    fill(layer.pwc1.weight, 1, 2, 3, 4)
    fill(layer.pwc2.weight, 1, 0, 2)
    return layer


def test_by_hand():
    # SRU: z = (1, 2, 0, 0). CRU: up 1 + 2·2 = 5, low 0: y₁ = 5 + bias + (5, 10, 15, 20), y₂ = 0
    y1 = torch.tensor([10.0, 16.0, 22.0, 28.0])
    torch.testing.assert_close(by_hand()(IMAGES).flatten(1), (y1 * torch.sigmoid(y1)).expand(2, 4))


def test_redundant_halves_are_exchanged_by_hand():
    layer = by_hand()
    fill(layer.norm.bias, -4e-4, -4e-4, -4e-4, -4e-4)  # sigmoids just below the threshold of 1/2: x₁ = x₂ = x/2
    z = layer._spatial_reconstruction(IMAGES).flatten(1)
    torch.testing.assert_close(z, torch.tensor([2.0, 3.0, 2.0, 3.0]).expand(2, 4), rtol=0, atol=1e-3)


def test_threshold():
    gate = torch.sigmoid(torch.tensor(1.0))
    z = by_hand(gate_threshold=0.75)._spatial_reconstruction(IMAGES)  # sigmoid(1) = 0.731 is no longer informative
    torch.testing.assert_close(z.flatten(1), (torch.tensor([1.0, 2.0, 1.0, 2.0]) * gate).expand(2, 4))


def test_scores_just_above_the_threshold_are_informative_in_bfloat16():
    layer = by_hand().bfloat16()
    fill(layer.norm.bias, 4e-4, 4e-4, 4e-4, 4e-4)  # scores of 1e-4, whose sigmoids are 1/2 in bfloat16
    assert torch.equal(layer._spatial_reconstruction(IMAGES.bfloat16()), IMAGES.bfloat16())


@pytest.mark.parametrize(
    ("i", "o", "alpha", "r", "g"), [(64, 64, 0.5, 2, 2), (64, 128, 0.25, 2, 4), (32, 16, 0.5, 4, 1)]
)
def test_parameter_count(i, o, alpha, r, g):
    up, low = int(alpha * i), i - int(alpha * i)
    squeezed = up * up / r + low * low / r
    expected = squeezed + 9 * (up / r) * o / g + (up / r) * o + (low / r) * (o - low / r) + 2 * i
    layer = SCConv2d(i, o, 3, padding=1, bias=False, alpha=alpha, squeeze_ratio=r, gwc_groups=g)
    assert sum(parameter.numel() for parameter in layer.parameters()) == expected


def test_keys_of_the_code_that_circulates():
    names = ["SRU.gn.weight", "SRU.gn.bias", "CRU.squeeze1.weight", "CRU.squeeze2.weight", "CRU.GWC.weight"]
    names += ["CRU.GWC.bias", "CRU.PWC1.weight", "CRU.PWC2.weight"]
    state = SCConv2d.from_authors({name: torch.zeros(1) for name in names})
    assert set(state) == set(SCConv2d(16, 16, 3, padding=1).state_dict())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": 33}, "in_channels=33: must be even, .* 34 would fit"),
        ({"norm_groups": 12}, "norm_groups=12: must divide in_channels=32; 1 or 2 or 4 or 8 or 16 or 32 would fit"),
        ({"norm_groups": 0}, "norm_groups=0: must be a whole number of at least 1"),
        ({"gate_threshold": 1}, "gate_threshold=1: must lie between 0 and 1; the paper uses 0.5"),
        ({"alpha": 0}, r"alpha=0: splits in_channels=32 into \(0, 32\), .* 0.5 would fit from in_channels=4 on"),
        ({"alpha": 1.5}, r"alpha=1.5: splits in_channels=32 into \(48, -16\)"),
        ({"squeeze_ratio": 0}, "squeeze_ratio=0: must be a whole number of at least 1"),
        (
            {"gwc_groups": 3},
            "gwc_groups=3: must divide squeezed_channels=8 and out_channels=32; 1 or 2 or 4 or 8 would",
        ),
        (
            {"out_channels": 8},
            "out_channels=8: must exceed the 8 channels .* 9 or more, or a larger squeeze_ratio, would fit",
        ),
        ({"stride": 2}, r"stride=\(2, 2\): SCConv2d hands channels through as they are; 1 would fit"),
        ({"groups": 2}, "groups=2: SCConv2d is defined for groups=1 only"),
        ({"padding": 0}, r"padding=\(0, 0\): SCConv2d needs .* padding=\(1, 1\) would fit"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        SCConv2d(**{"in_channels": 32, "out_channels": 32, "kernel_size": 3, "padding": 1, **arguments})
