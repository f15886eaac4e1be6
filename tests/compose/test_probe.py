import pytest
import torch
from torch import nn
from torch.nn import functional as F

from efficientconv.compose.probe import is_channelwise, is_elementwise


@pytest.mark.parametrize(
    "operation",
    [
        nn.ReLU(inplace=True),
        nn.Hardswish(),
        nn.Identity(),
        nn.Dropout(0.5),
        lambda x: x * 2 - 1,
        lambda x: x * torch.sigmoid(x),
        lambda x: F.dropout(x, 0.5, training=True),
        lambda x: (x - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / 0.5,  # knows that an image has three channels
    ],
)
def test_elementwise(operation):
    assert is_elementwise(operation)


@pytest.mark.parametrize(
    "operation",
    [
        nn.Softmax(1),
        nn.MaxPool2d(3, 1, 1),
        nn.AvgPool2d(2),
        nn.ChannelShuffle(2),
        nn.Flatten(),
        lambda x: x.flip(1),
        lambda x: x.mean((2, 3)),
        lambda x: x.shape[0],
        lambda x: x * x.mean((2, 3), keepdim=True),
    ],
)
def test_not_elementwise(operation):
    assert not is_elementwise(operation)


@pytest.mark.parametrize(
    "operation",
    [nn.ReLU(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Upsample(scale_factor=2), lambda x: x.mean((2, 3), True)],
)
def test_channelwise(operation):
    assert is_channelwise(operation)


@pytest.mark.parametrize(
    "operation",
    [
        nn.ChannelShuffle(2),
        nn.Flatten(),
        nn.GLU(1),
        nn.Softmax2d(),
        lambda x: x + torch.zeros(4, 1, 1),  # for four channels alone
        lambda x: torch.cat((x, x), 1),
    ],
)
def test_not_channelwise(operation):
    assert not is_channelwise(operation)


def test_probing_leaves_the_random_state_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    is_elementwise(nn.Dropout(0.5))
    assert torch.equal(torch.rand(2), expected)


def test_the_callers_default_device_does_not_matter():
    with torch.device("meta"):
        assert is_elementwise(nn.ReLU())
        assert is_channelwise(nn.AvgPool2d(2))
        assert is_elementwise(lambda x: x + torch.ones(1))
