from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional

from efficientconv.errors import UserError
from efficientconv.loaders.decode import read_rgb
from efficientconv.loaders.image_files import Listing
from efficientconv.transforms.crops import CenterCrop
from efficientconv.transforms.image import ColorJitter, Flip, ImageTransform


def test_flip_mirrors_half_of_the_images() -> None:
    drawn = Flip().draw(2000, np.random.default_rng(0))
    assert 900 < drawn.sum() < 1100  # 1000 ± 4.5 standard deviations
    image = torch.tensor([[[1, 2]]], dtype=torch.uint8)
    assert Flip()(image, np.array([1.0])).tolist() == [[[2, 1]]]
    assert Flip()(image, np.array([0.0])).tolist() == [[[1, 2]]]


def test_factors_are_within_their_strengths() -> None:
    factors = ColorJitter(brightness=0.4, contrast=0, saturation=2).draw(2000, np.random.default_rng(0))
    np.testing.assert_allclose(factors.min(0), [0.6, 1, 0], atol=0.01)
    np.testing.assert_allclose(factors.max(0), [1.4, 1, 3], atol=0.01)


def test_colours_change_as_torchvision_changes_them() -> None:
    image = torch.randint(0, 256, (3, 9, 7), dtype=torch.uint8)
    expected = functional.adjust_brightness(image, 0.7)
    assert torch.equal(ColorJitter(brightness=0.4)(image, np.array([0.7, 9, 9])), expected)
    expected = functional.adjust_saturation(functional.adjust_contrast(expected, 1.3), 0.2)
    assert torch.equal(ColorJitter(0.4, 0.4, 0.9)(image, np.array([0.7, 1.3, 0.2])), expected)


@pytest.mark.parametrize(
    "transform",
    [Flip(), ColorJitter(0.4), ColorJitter(0, 0.4), ColorJitter(0, 0, 0.4), ColorJitter(0.4, 0.4, 0.4)],
    ids=["flip", "brightness", "contrast", "saturation", "all"],
)
def test_dali_does_the_same(transform: ImageTransform, photographs: list[str]) -> None:
    from efficientconv.loaders.dali_loader import DaliLoader

    listing, crop = Listing(photographs, torch.zeros(26, dtype=torch.int64)), CenterCrop(32, 40)
    loader = DaliLoader(listing, crop, [transform], batch_size=26, training=False, workers=1)
    images = [crop(read_rgb(path), np.empty(0)) for path in photographs]
    expected = torch.stack([transform(image, own) for image, own in zip(images, loader._draw(0)[0], strict=True)])
    ((shown, _),) = loader
    assert not torch.equal(expected, torch.stack(images))
    assert (255 * shown - expected).abs().mean((1, 2, 3)).max() <= 2  # torchvision rounds down after each step


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"hue": 0.1}, r"data.color_jitter=.*hue.*: must be null or any of {brightness, contrast, saturation}"),
        ({"contrast": -1}, "must be null or any of .*contrast=-1: must be a number of at least 0; 0 leaves it alone"),
        (0.4, "data.color_jitter=0.4: must be null or any of"),
    ],
)
def test_impossible_colours_are_refused(value, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ColorJitter.parse(value)
