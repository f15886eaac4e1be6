from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits

from efficientconv.data import Digits


def ready(**options) -> Digits:
    data = Digits(**options)
    data.prepare_data()
    data.setup("fit")
    return data


def test_digits_are_ten_classes_of_32_by_32_in_three_channels() -> None:
    data = ready()
    assert data.class_names == [str(digit) for digit in range(10)]
    assert (data.num_classes, data.input_size, data.evaluated_on) == (10, (3, 32, 32), "test")


def test_every_digit_is_in_one_part_and_each_class_in_both() -> None:
    splits = ready().load()
    counts = [torch.bincount(part.labels) for part in (splits.train, splits.test)]
    assert (sum(counts)).tolist() == torch.bincount(torch.from_numpy(load_digits().target)).tolist()
    assert torch.equal(counts[1], (sum(counts) * 0.2).round().long())


def test_pixels_are_the_digits_in_the_full_range_and_grey() -> None:
    data = ready(normalize=False)
    images = torch.cat([images for images, _ in data.test_dataloader()])
    assert torch.equal(images[:, 0], images[:, 1])
    assert torch.equal(images[:, 0], images[:, 2])
    small = torch.nn.functional.avg_pool2d(images[:, :1], 4).flatten(1)  # (N, 64), near the original 8×8
    originals = torch.from_numpy(load_digits().data).float() / 16
    nearest = torch.cdist(small, originals).argmin(dim=1)
    labels = torch.cat([labels for _, labels in data.test_dataloader()])
    assert (torch.from_numpy(load_digits().target)[nearest] == labels).float().mean() > 0.99


def test_the_test_set_does_not_depend_on_the_seed() -> None:
    one, other = (ready(seed=seed).load().test for seed in (0, 1))
    assert torch.equal(one.images, other.images)


def test_digits_are_never_flipped() -> None:
    assert not ready().augmentation.flip
    with pytest.raises(TypeError, match="flip"):
        Digits(flip=True)
