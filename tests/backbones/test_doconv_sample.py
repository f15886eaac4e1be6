import pytest
import torch
from torch import nn

from efficientconv.backbones.doconv_sample import lenet_doconv_sample


def test_is_the_authors_network():
    model = lenet_doconv_sample(10, in_channels=1)
    theirs = nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(16, 10, 3, 2, 1),
        nn.ReLU(),
    )
    for ours, original in zip(model.parameters(), theirs.parameters(), strict=True):
        original.data.copy_(ours)
    x = torch.randn(2, 1, 28, 28)
    assert torch.allclose(model(x), theirs(x).mean((2, 3)), atol=1e-6)
    assert sum(parameter.numel() for parameter in model.parameters()) == 160 + 2320 + 1450


def test_takes_three_channels_unless_told_otherwise():
    assert lenet_doconv_sample(10)(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_in_channels_are_checked():
    with pytest.raises(ValueError, match=r"^in_channels=0: must be a whole number of at least 1$"):
        lenet_doconv_sample(10, in_channels=0)
