from collections import Counter

import pytest
import torch

from efficientconv.bench import loader
from efficientconv.bench.loader import (
    DECODING,
    PLAIN,
    Decoding,
    measure_loaders,
    memory_loaders,
    one_pass,
    photo_loaders,
)
from efficientconv.bench.tool import open_data
from efficientconv.errors import UserError
from tests.bench.conftest import CLASSES, IMAGES, configuration

CPU = torch.device("cpu")


def photo_data(root, *overrides):
    words = ["data=image_folder", f"data.root={root}", "data.image_size=64", "data.workers=0", "recipe.batch_size=4"]
    return open_data(configuration(*words, *overrides)["data"])


def test_grey_images_are_measured_too(tiny_mnist):
    words = ["data=mnist", f"data.root={tiny_mnist}", "data.channels=1", "data.crop_padding=0", "recipe.batch_size=20"]
    data = open_data(configuration(*words)["data"])
    for batches in memory_loaders(data, data.train_dataloader(), CPU).values():
        images = torch.cat([images for images, _ in batches])
        assert images.shape == (120, 1, 28, 28)


def small_data(*overrides):
    return open_data(configuration("data=random", "data.images=30", "recipe.batch_size=8", *overrides)["data"])


@pytest.mark.filterwarnings("ignore")
def test_every_loader_of_photographs_shows_each_image_once(photographs):
    template = photo_data(photographs).train_dataloader()
    loaders = photo_loaders(template, template.listing, CPU)
    assert loaders.keys() == {PLAIN, "dali", "torch"}
    for batches in loaders.values():
        seen = list(batches)
        assert Counter(torch.cat([labels for _, labels in seen]).tolist()) == dict.fromkeys(range(CLASSES), IMAGES)
        assert {images.shape[1:] for images, _ in seen} == {(3, 64, 64)}
        assert max(len(labels) for _, labels in seen) == 4


@pytest.mark.filterwarnings("ignore")
def test_without_dali_it_is_left_out(photographs, monkeypatch):
    monkeypatch.setattr(loader, "dali_problem", lambda device: "is not installed")
    template = photo_data(photographs, "data.loader=torch").train_dataloader()
    assert photo_loaders(template, template.listing, CPU).keys() == {PLAIN, "torch"}


def test_the_plain_loader_does_what_the_others_do_to_the_pixels():
    data = small_data("data.crop_padding=0", "data.flip=false", "recipe=cosine_cifar", "recipe.batch_size=8")
    template = data.train_dataloader()
    loaders = memory_loaders(data, template, CPU)
    pixels = {}
    for name, batches in loaders.items():
        images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
        assert Counter(labels.tolist()) == dict.fromkeys(range(10), 3)
        pixels[name] = images.flatten(1)[images.flatten(1).sum(1).argsort()]
    torch.testing.assert_close(pixels["memory"], pixels[PLAIN], rtol=0, atol=1e-5)


@pytest.mark.parametrize("overrides", [["recipe=bsconv_stanford_dogs"], ["+data.color_jitter={brightness: 0.4}"]])
def test_a_crop_that_the_reference_script_does_not_have(photographs, overrides):
    words = [word.replace("+", "+" if "color" not in word else "") for word in overrides]
    template = photo_data(photographs, "data.loader=torch", *words, "recipe.batch_size=4").train_dataloader()
    with pytest.raises(UserError, match="torchvision's reference script crops random areas and flips; recipe=imagenet"):
        photo_loaders(template, template.listing, CPU)


def test_few_images_are_shown_more_than_once_and_many_are_sampled(photographs):
    listing = photo_data(photographs, "data.loader=torch").train_dataloader().listing
    assert set(Counter(loader.sample(listing, 12).paths).values()) == {2}
    few = loader.sample(listing, 4)
    assert len(set(few.paths)) == len(few) == 4
    assert few.paths == loader.sample(listing, 4).paths
    labels = dict(zip(listing.paths, listing.labels.tolist(), strict=True))
    assert few.labels.tolist() == [labels[path] for path in few.paths]


def test_a_pass_and_decoding_count_images(photographs):
    template = photo_data(photographs, "data.loader=torch").train_dataloader()
    assert one_pass(template, CPU)() == CLASSES * IMAGES
    assert Decoding(template.listing, threads=2)() == CLASSES * IMAGES


@pytest.mark.filterwarnings("ignore")
def test_measures_all_in_every_round(photographs):
    measured = measure_loaders(photo_data(photographs), CPU, images=8, rounds=2, seconds=0)
    assert measured.rates.keys() == {PLAIN, "dali", "torch", DECODING}
    assert all(len(rates) == 2 and min(rates) > 0 for rates in measured.rates.values())
    assert measured.ratio(PLAIN) == 1.0


TORCHVISIONS = {
    "randaugment": "RandAugment",
    "trivialaugment": "TrivialAugmentWide",
    "autoaugment_cifar10": "AutoAugment",
    "autoaugment_imagenet": "AutoAugment",
}


@pytest.mark.parametrize(("policy", "name"), TORCHVISIONS.items())
def test_the_plain_loader_takes_torchvisions_own(policy, name):
    data = small_data(f"recipe.augment={policy}", "recipe.random_erasing=0.5", "recipe.batch_size=8")
    plain = memory_loaders(data, data.train_dataloader(), CPU)[PLAIN]
    steps = plain.dataset.transform.transforms
    assert [type(step).__name__ for step in steps[2:]] == [name, "ToTensor", "RandomErasing"]
    if name == "AutoAugment":
        assert steps[2].policy.value == policy.removeprefix("autoaugment_")
    if name == "RandAugment":
        assert (steps[2].num_ops, steps[2].magnitude) == (2, 9)
    assert steps[-1].p == 0.5


def test_photographs_are_augmented_by_torchvisions_own(photographs):
    words = ("data.loader=torch", "recipe.augment=randaugment", "recipe.random_erasing=0.5", "recipe.batch_size=4")
    template = photo_data(photographs, *words).train_dataloader()
    steps = photo_loaders(template, template.listing, CPU)[PLAIN].dataset.transform.transforms
    assert [type(step).__name__ for step in steps][-5:] == [
        "RandAugment", "PILToTensor", "ToDtype", "Normalize", "RandomErasing",
    ]  # fmt: skip


@pytest.mark.parametrize("added", ["recipe.augment={policy: randaugment, spread: 0.5}", "recipe.repeats=2"])
def test_what_torchvision_lacks_is_refused(added):
    data = small_data(added)
    with pytest.raises(UserError, match=r"takes torchvision's own transforms, which has none for recipe\.repeats, nor"):
        memory_loaders(data, data.train_dataloader(), CPU)
