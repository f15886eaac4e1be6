import numpy as np
import pytest
import torch

from efficientconv.errors import UserError
from efficientconv.transforms.added import POLICIES, AddedAugmentation

SIZE = (8, 8)
WRONG = {
    "randaugmnt": "must be null or one of randaugment, trivialaugment",
    "autoaugment": "must be null or one of autoaugment_cifar10",
    9: "must be null or one of",
}
WRONG_OPTIONS = {
    "magnitude": (31, "recipe.augment.magnitude=31: must be a whole number from 0 to 30"),
    "num_ops": (0, "recipe.augment.num_ops=0: must be a whole number of at least 1"),
    "spread": (-1, "recipe.augment.spread=-1: must be a number from 0 to 30"),
    "probability": (1.5, "recipe.augment.probability=1.5: must be a number from 0 to 1"),
    "magnitudes": (9, "randaugment takes num_ops, magnitude, spread and probability"),
}


def test_nothing_added_draws_and_changes_nothing():
    added = AddedAugmentation.parse(None, 0)
    rng = np.random.default_rng(0)
    draws = added.draw(5, SIZE, rng)
    images = torch.zeros(5, 3, *SIZE, dtype=torch.uint8)
    assert draws.shape == (5, 0)
    assert added.change(images, draws) is images
    assert added.erase(images, draws) is images
    assert rng.random() == np.random.default_rng(0).random()


@pytest.mark.parametrize("erasing", [0, 0.5])
@pytest.mark.parametrize("name", POLICIES)
def test_each_policy_changes_images_with_and_without_erasing(name: str, erasing: float):
    added = AddedAugmentation.parse({"policy": name}, erasing)
    draws = added.draw(50, SIZE, np.random.default_rng(0))
    images = torch.randint(256, (50, 3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    changed = (added.change(images, draws) != images).flatten(1).any(1)
    assert changed.sum() > 10
    erased = (added.erase(torch.ones(50, 3, *SIZE), draws) == 0).flatten(1).any(1)
    assert 10 < erased.sum() < 40 if erasing else not erased.any()


@pytest.mark.parametrize("value", WRONG)
def test_an_unknown_policy_is_refused(value: object):
    with pytest.raises(UserError, match=f"recipe.augment={value}: {WRONG[value]}"):
        AddedAugmentation.parse(value, 0)


@pytest.mark.parametrize("option", WRONG_OPTIONS)
def test_a_wrong_option_is_refused(option: str):
    value, message = WRONG_OPTIONS[option]
    with pytest.raises(UserError, match=message):
        AddedAugmentation.parse({"policy": "randaugment", option: value}, 0)


def test_options_of_a_policy_without_any_are_refused():
    with pytest.raises(UserError, match="trivialaugment takes no options"):
        AddedAugmentation.parse({"policy": "trivialaugment", "magnitude": 9}, 0)


@pytest.mark.parametrize("value", [0, 2.5, True])
def test_wrong_repeats_are_refused(value: object):
    with pytest.raises(UserError, match=f"recipe.repeats={value}: must be a whole number of at least 1"):
        AddedAugmentation.parse(repeats=value)
