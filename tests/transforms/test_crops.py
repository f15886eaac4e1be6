from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from efficientconv.loaders.decode import read_rgb
from efficientconv.loaders.image_files import Listing
from efficientconv.transforms.crops import ATTEMPTS, CenterCrop, Crop, RandomAreaCrop, RandomCrop


def image(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def numbers(*sides: tuple[float, float], place: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """What ``draw`` could have drawn: the relative heights and widths given, then such as never fit."""
    heights, widths = (list(values) for values in zip(*sides, strict=True))
    beyond = [9.0] * (ATTEMPTS - len(sides))
    return np.array([*heights, *beyond, *widths, *beyond, *place])


def test_a_window_worked_by_hand() -> None:
    crop = RandomAreaCrop(8)  # the square root of 40 × 90 is 60
    assert crop.window(40, 90, numbers((0.5, 1.25), place=(0.0, 0.0))) == (0, 0, 30, 75)
    assert crop.window(40, 90, numbers((0.5, 1.25), place=(0.999, 0.999))) == (10, 15, 30, 75)


def test_the_first_window_that_fits_is_taken() -> None:
    drawn = numbers((1.0, 0.5), (0.5, 2.0), (0.25, 0.5), (0.5, 0.5))  # 60×30 and 30×120 do not fit into 40×90
    assert RandomAreaCrop(8).window(40, 90, drawn) == (0, 0, 15, 30)


@pytest.mark.parametrize(
    ("height", "width", "window"),
    [
        (20, 100, (0, 37, 20, 27)),  # the widest permitted is 4/3 of 20
        (100, 20, (37, 0, 27, 20)),
        (30, 30, (0, 0, 30, 30)),
    ],
)
def test_where_none_fits_the_middle_is_taken(height: int, width: int, window: tuple[int, ...]) -> None:
    assert RandomAreaCrop(8).window(height, width, numbers((9.0, 9.0))) == window


def test_windows_are_distributed_as_torchvisions() -> None:
    crop, rng = RandomAreaCrop(8, (0.1, 1.0), (0.8, 1.25)), np.random.default_rng(0)
    torch.manual_seed(0)
    reference = v2.RandomResizedCrop(8, (0.1, 1.0), (0.8, 1.25))
    ours = np.array([crop.window(60, 80, drawn) for drawn in crop.draw(3000, rng)])
    made = [reference.make_params([image(60, 80)]) for _ in range(3000)]
    theirs = np.array([[params[key] for key in ("top", "left", "height", "width")] for params in made])
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), atol=1.2)  # about 4 standard errors
    np.testing.assert_allclose(ours.std(0), theirs.std(0), atol=1.2)


@pytest.mark.parametrize("size", [(60, 80), (80, 61), (64, 64), (33, 97), (97, 200), (300, 70)])
def test_the_middle_is_torchvisions_bit_for_bit(size: tuple[int, int]) -> None:
    original = image(*size)
    expected = v2.Compose([v2.Resize(64), v2.CenterCrop(56)])(original)
    assert torch.equal(CenterCrop(56, 64)(original, np.empty(0)), expected)


def test_both_sides_are_scaled_where_the_aspect_is_not_kept() -> None:
    original = image(60, 80)
    scaled = v2.functional.resize(original, [64, 64])
    assert torch.equal(CenterCrop(56, 64, keep_aspect=False)(original, np.empty(0)), scaled[:, 4:60, 4:60])
    random = RandomCrop(56, 64, keep_aspect=False)
    assert torch.equal(random(original, np.array([0.0, 0.999])), scaled[:, :56, 8:])


def test_the_usual_size_before_the_crop() -> None:
    assert CenterCrop(224).resize == 256
    assert CenterCrop(64).resize == 73


@pytest.mark.parametrize(
    "make",
    [
        partial(CenterCrop, 32, 40),
        partial(CenterCrop, 32, 39),
        partial(CenterCrop, 32, 40, keep_aspect=False),
        partial(RandomCrop, 32, 40),
        partial(RandomCrop, 32, 40, keep_aspect=False),
        partial(RandomAreaCrop, 32),
        partial(RandomAreaCrop, 32, (0.1, 0.2), (0.3, 3.0)),
        partial(RandomAreaCrop, 32, (1.0, 1.0), (1.0, 1.0)),  # never fits but into a square
    ],
)
def test_dali_shows_the_same_pixels(make: partial[Crop], photographs: list[str]) -> None:
    from efficientconv.loaders.dali_loader import DaliLoader

    loader = DaliLoader(
        Listing(photographs, torch.zeros(26, dtype=torch.int64)), make(), batch_size=26, training=False, workers=1
    )
    drawn, _ = loader._draw(0)
    expected = torch.stack([make()(read_rgb(path), own) for path, own in zip(photographs, drawn, strict=True)])
    ((shown, _),) = loader
    difference = (255 * shown - expected).abs().mean((1, 2, 3))
    assert difference.max() <= 0.5  # of 255; 1.5 is promised


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomAreaCrop(8, (0.5,)), r"area=\[0.5\]: must be the smallest and the largest, both above 0"),
        (lambda: RandomAreaCrop(8, (0.0, 1.0)), r"area=\[0.0, 1.0\]: must be the smallest and the largest"),
        (lambda: RandomAreaCrop(8, (0.5, 2)), r"area=\[0.5, 2\]: parts of the image's area, so at most 1"),
        (lambda: RandomAreaCrop(8, ratio=(2, 1)), r"ratio=\[2, 1\]: must be the smallest and the largest"),
        (lambda: CenterCrop(64, 32), "resize=32: must be at least the size of the crop, 64 pixels"),
    ],
)
def test_impossible_crops_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
