from __future__ import annotations

import pytest
import torch

from efficientconv.datasets import MNIST, Digits
from efficientconv.datasets.in_memory import in_channels
from efficientconv.errors import UserError


@pytest.mark.parametrize("channels", [1, 3])
def test_every_channel_is_the_grey_image(channels: int) -> None:
    images = torch.arange(24, dtype=torch.uint8).view(2, 3, 4)
    given = in_channels(images, channels)
    assert given.shape == (2, channels, 3, 4)
    assert all(torch.equal(channel, images) for channel in given.unbind(dim=1))


@pytest.mark.parametrize("source", [MNIST, Digits])
@pytest.mark.parametrize("channels", [2, "1", None])
def test_other_numbers_of_channels_are_refused(source: type, channels: object) -> None:
    message = rf"data.channels={channels}: must be 1, the grey images as they are, or 3, three equal ones"
    with pytest.raises(UserError, match=message):
        source(channels=channels)
