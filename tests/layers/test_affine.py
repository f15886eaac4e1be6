import copy

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

from efficientconv.layers.affine import (
    add_to_first_channels,
    affine_sum,
    gated_norm,
    is_lazy,
    means_and_affine,
    sum_of_parts,
)


def doubles(*size: int) -> torch.Tensor:
    return torch.randn(*size, dtype=torch.float64, requires_grad=True)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
def test_gradients(check):
    x, y, a, b = doubles(2, 3, 2, 2), doubles(2, 3, 2, 2), doubles(2, 3), doubles(2, 3)
    norm = nn.BatchNorm2d(3, dtype=torch.float64)
    assert check(lambda x: means_and_affine(norm, x), (x,))
    assert check(lambda x, y, a, b: affine_sum((x, a), (y, b)), (x, y, a, b))
    assert check(lambda x, a, b: affine_sum((x, a), shift=b), (x, a, b))
    assert check(lambda x, y: add_to_first_channels(x.clone(), y[:, :2]), (x, y))


def test_affine_sum_by_hand():
    x, y = torch.tensor([1.0, 2.0]).view(1, 1, 1, 2), torch.tensor([3.0, 4.0]).view(1, 1, 1, 2)
    two, three, five = (torch.full((1, 1), value) for value in (2.0, 3.0, 5.0))
    assert affine_sum((x, two), (y, three), shift=five).flatten().tolist() == [16, 21]
    assert affine_sum((x, two), (y, three)).flatten().tolist() == [11, 16]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_sum_of_parts_by_hand(memory_format):
    x = torch.arange(1.0, 8).view(1, 7, 1, 1).contiguous(memory_format=memory_format)
    weights = torch.tensor([[1.0, 2, 3, 4, 5, 6, 100]])
    assert sum_of_parts(x, weights, 2).flatten().tolist() == [1 + 16, 4 + 25, 9 + 36]
    assert sum_of_parts(x[:, :6], weights[:, :6], 3).flatten().tolist() == [1 + 9 + 25, 4 + 16 + 36]


def test_add_to_first_channels():
    x = torch.zeros(1, 3, 1, 1)
    assert add_to_first_channels(x, torch.ones(1, 2, 1, 1)) is x
    assert x.flatten().tolist() == [1, 1, 0]


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("training", [True, False])
def test_scale_and_shift_are_the_norms(training, momentum):
    norm = nn.BatchNorm2d(3, momentum=momentum, dtype=torch.float64)
    nn.init.uniform_(norm.weight)
    nn.init.uniform_(norm.bias)
    twin = copy.deepcopy(norm)
    for _ in range(3):
        norm.train()(doubles(4, 3, 5, 5) * 3 + 2)
    twin.load_state_dict(norm.state_dict())
    y = doubles(4, 3, 5, 5) * 2 - 1
    expected = norm.train(training)(y)
    means, scale, shift = means_and_affine(twin.train(training), y)
    torch.testing.assert_close(y * scale.view(-1, 1, 1) + shift.view(-1, 1, 1), expected)
    torch.testing.assert_close(means, expected.mean((2, 3)))
    for name, buffer in norm.named_buffers():
        torch.testing.assert_close(twin.get_buffer(name), buffer)


def test_variance_survives_a_large_mean():
    y = torch.randn(8, 4, 16, 16) + 1e4
    _, scale, _ = means_and_affine(nn.BatchNorm2d(4), y)
    exact = (y.double().var((0, 2, 3), correction=0) + 1e-5).rsqrt()
    torch.testing.assert_close(scale.double(), exact, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    "norm",
    [
        nn.Identity(),
        nn.SyncBatchNorm(3),
        nn.BatchNorm2d(3, affine=False),
        nn.BatchNorm2d(3, track_running_stats=False),
    ],
    ids=lambda norm: str(norm),
)
def test_other_norms_are_called(norm):
    assert not is_lazy(norm, torch.randn(2, 3, 4, 4))


def test_one_value_a_channel_is_left_to_the_norm():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        gated_norm(torch.randn(1, 3, 1, 1), nn.BatchNorm2d(3), torch.sigmoid)
