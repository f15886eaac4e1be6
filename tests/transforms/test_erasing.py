import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional

from efficientconv.errors import UserError
from efficientconv.transforms.erasing import RandomErasing

SIZE = (32, 24)


def draw(probability: float = 1.0, count: int = 4000) -> np.ndarray:
    return RandomErasing(probability).draw(count, SIZE, np.random.default_rng(0))


def test_pixels_are_torchvisions():
    rectangles = draw(0.5, 64)
    images = torch.randn(64, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    expected = [functional.erase(i, *r, torch.zeros(1, 1, 1)) for i, r in zip(images, rectangles.tolist(), strict=True)]
    assert torch.equal(RandomErasing(0.5)(images.clone(), rectangles), torch.stack(expected))


def test_memory_format_is_kept():
    images = torch.ones(8, 3, *SIZE).to(memory_format=torch.channels_last)
    erased = RandomErasing(1.0)(images, draw(1.0, 8))
    assert erased.is_contiguous(memory_format=torch.channels_last)


def test_rectangles_lie_inside_and_have_the_area_asked_for():
    top, left, height, width = draw().T
    assert (height > 0).mean() > 0.99
    assert ((top >= 0) & (top + height <= SIZE[0]) & (left >= 0) & (left + width <= SIZE[1])).all()
    area = height * width / (SIZE[0] * SIZE[1])
    assert area.max() < 0.4
    assert area.mean() == pytest.approx((0.02 + 0.33) / 2, rel=0.05)


def test_every_place_can_be_erased():
    top, left, height, width = draw().T
    assert top.min() == left.min() == 0
    assert (top + height).max() == SIZE[0]
    assert (left + width).max() == SIZE[1]


def test_the_probability_is_the_share_of_images():
    assert (draw(0.25)[:, 2] > 0).mean() == pytest.approx(0.25, abs=0.03)


def test_an_image_of_one_pixel_keeps_it():
    assert not RandomErasing(1.0).draw(100, (1, 1), np.random.default_rng(0))[:, 2:].any()


@pytest.mark.parametrize("value", [-0.1, 1.5, "much", True, None])
def test_no_probability_is_refused(value: object):
    with pytest.raises(UserError, match=f"recipe.random_erasing={value}: must be a probability, from 0 to 1; 0 is off"):
        RandomErasing(value)
