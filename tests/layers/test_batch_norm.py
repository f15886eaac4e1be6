import pytest
import torch
from torch import nn

from efficientconv.layers.batch_norm import (
    ScaleShift,
    folded,
    folded_behind,
    folded_sequence,
    rescaled,
    scale_and_shift,
)


def norm(channels: int = 1, **kwargs) -> nn.BatchNorm2d:
    """Batch norm with mean 3, variance 4, weight 6 and bias 1: 3·x − 8."""
    result = nn.BatchNorm2d(channels, eps=0, **kwargs).eval()
    result.running_mean.fill_(3)
    result.running_var.fill_(4)
    if result.affine:
        nn.init.constant_(result.weight, 6)
        nn.init.constant_(result.bias, 1)
    return result


def test_scale_and_shift_by_hand():
    assert [value.item() for value in scale_and_shift(norm())] == [3, -8]
    assert [value.item() for value in scale_and_shift(norm(affine=False))] == [0.5, -1.5]


@pytest.mark.parametrize("wrong", [nn.Identity(), nn.BatchNorm2d(2, track_running_stats=False)])
def test_only_running_statistics_are_a_fixed_scale(wrong):
    with pytest.raises(ValueError, match="only a batch norm with running statistics is a fixed scale and shift"):
        scale_and_shift(wrong)


def test_scale_shift_takes_the_place_of_a_batch_norm():
    x = torch.tensor([1.0, 2.0]).view(1, 1, 1, 2)
    assert ScaleShift(norm())(x).flatten().tolist() == [-5, -2]


def test_folded_convolution_by_hand():
    conv = nn.Conv2d(1, 1, 1)
    nn.init.constant_(conv.weight, 2)
    nn.init.constant_(conv.bias, 5)
    result = folded(conv, norm())
    assert (result.weight.item(), result.bias.item()) == (6, 7)  # 3·(2x + 5) − 8
    assert (conv.weight.item(), conv.bias.item()) == (2, 5)


def test_rescaled_without_shift_has_no_bias():
    conv = nn.Conv2d(1, 2, 1, bias=False)
    nn.init.constant_(conv.weight, 2)
    result = rescaled(conv, torch.tensor([1.0, 3.0]))
    assert result.weight.flatten().tolist() == [2, 6]
    assert result.bias is None


def test_folded_sequence_keeps_the_rest():
    path = nn.Sequential(nn.Conv2d(1, 3, 3), norm(3), nn.ReLU(), nn.Conv2d(3, 2, 1, bias=False), norm(2)).eval()
    result, x = folded_sequence(path), torch.randn(2, 1, 5, 5)
    assert [type(module) for module in result] == [nn.Conv2d, nn.ReLU, nn.Conv2d]
    torch.testing.assert_close(result(x), path(x), rtol=1e-5, atol=1e-4)


def test_a_norm_in_front_of_a_padded_convolution_does_not_fold():
    with pytest.raises(ValueError, match=r"padding=\(1, 1\): a batch norm in front goes into a convolution without"):
        folded_behind(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1))
