from __future__ import annotations

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from sklearn.datasets import load_digits

from efficientconv.config_path import CONFIGS
from efficientconv.datasets import Digits
from efficientconv.errors import UserError


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


def test_one_channel_is_the_grey_image_with_its_own_normalisation() -> None:
    one, three = ready(channels=1), ready(channels=3)
    assert one.input_size == (1, 32, 32)
    assert one.normalization.mean * 3 == pytest.approx(three.normalization.mean)
    (grey, labels), (equal, same_labels) = (next(iter(data.test_dataloader())) for data in (one, three))
    torch.testing.assert_close(grey.expand(-1, 3, -1, -1), equal)
    assert torch.equal(labels, same_labels)


@pytest.mark.parametrize(
    ("words", "channels"),
    [
        (["model=resnet20"], 3),
        (["model=lenet_doconv_sample"], 3),
        (["model=lenet_doconv_sample", "model.in_channels=1"], 1),
        (["model=timm", "model.name=mobilenetv3_small_050", "+model.kwargs.in_chans=1", "data.channels=1"], 1),
    ],
)
def test_a_network_gets_the_channels_it_takes(words: list[str], channels: int) -> None:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("train", overrides=["data=digits", "data.batch_size=4", *words])
    data = instantiate(config.data, _convert_="all")
    images, _ = next(iter(data.train_dataloader()))
    assert images.shape == (4, channels, 14, 14)
    assert instantiate(config.model)(num_classes=data.num_classes)(images).shape == (4, 10)


def test_the_test_set_does_not_depend_on_the_seed() -> None:
    one, other = (ready(seed=seed).load().test for seed in (0, 1))
    assert torch.equal(one.images, other.images)


def test_digits_are_never_flipped() -> None:
    assert not ready().augmentation.flip
    with pytest.raises(TypeError, match="flip"):
        Digits(flip=True)


def test_the_size_is_the_recipe_s_or_cifar_s() -> None:
    assert [ready(image_size=size).input_size for size in (16, None)] == [(3, 16, 16), (3, 32, 32)]
    with pytest.raises(UserError, match=r"data.image_size=0: must be a whole number of at least 1"):
        Digits(image_size=0)
