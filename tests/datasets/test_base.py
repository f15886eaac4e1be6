from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from efficientconv.datasets import InMemoryData, Splits
from efficientconv.datasets.base import missing_classes, stratified_split
from efficientconv.errors import UserError
from efficientconv.loaders import InMemoryLoader, LabeledImages
from efficientconv.transforms.batch import Normalization

LABELS = torch.tensor([0] * 10 + [1] * 20 + [2] * 5)[torch.randperm(35, generator=torch.Generator().manual_seed(0))]


def part(first: int, counts: tuple[int, ...]) -> LabeledImages:
    """Images whose pixels are a number of their own, from ``first``; ``counts`` of each class."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    numbers = torch.arange(first, first + len(labels), dtype=torch.uint8)
    return LabeledImages(numbers.view(-1, 1, 1, 1).expand(-1, 3, 6, 5).contiguous(), labels)


class Tiny(InMemoryData):
    """Three classes: training images 0 to 39, test images 100 to 108, perhaps validation images 200 to 202."""

    title = "tiny"

    def __init__(self, own_validation: bool = False, counts: tuple[int, ...] = (20, 10, 10), **common: Any) -> None:
        super().__init__(**{"batch_size": 4, "normalize": False, "crop_padding": 0, "flip": False, **common})
        self.own_validation, self.counts, self.loaded = own_validation, counts, 0

    def load(self) -> Splits[LabeledImages]:
        self.loaded += 1
        self.class_names = ["ant", "bee", "cat"]
        return Splits(part(0, self.counts), part(100, (3, 3, 3)), part(200, (1, 1, 1)) if self.own_validation else None)


def ready(**options: Any) -> Tiny:
    data = Tiny(**options)
    data.prepare_data()
    data.setup("fit")
    return data


def pixels(loader: InMemoryLoader) -> list[int]:
    """The numbers of all images in an epoch, sorted."""
    epoch = torch.cat([images[:, 0, 0, 0] for images, _ in loader])
    return sorted((epoch * 255).round().int().tolist())


def test_after_setup_everything_is_known() -> None:
    data = ready()
    assert (data.class_names, data.num_classes, data.input_size) == (["ant", "bee", "cat"], 3, (3, 6, 5))
    assert data.evaluated_on == "test"
    assert data.normalization is None


def test_setup_loads_once() -> None:
    data = ready()
    data.setup("fit")
    data.setup("test")
    data.prepare_data()
    assert data.loaded == 1


def test_without_a_validation_split_the_test_set_is_the_validation_set() -> None:
    data = ready()
    assert pixels(data.train_dataloader()) == list(range(40))
    assert pixels(data.val_dataloader()) == pixels(data.test_dataloader()) == list(range(100, 109))


def test_a_validation_split_is_a_stratified_part_of_the_training_set() -> None:
    data = ready(val_split=0.1)
    train, validation = pixels(data.train_dataloader()), pixels(data.val_dataloader())
    assert data.evaluated_on == "validation"
    assert sorted(train + validation) == list(range(40))
    assert [sum(low <= n < high for n in validation) for low, high in ((0, 20), (20, 30), (30, 40))] == [2, 1, 1]
    assert pixels(data.test_dataloader()) == list(range(100, 109))


def test_the_validation_split_follows_its_own_seed_and_neither_the_run_s_nor_the_train_fraction() -> None:
    same = ({}, {"seed": 5}, {"train_fraction": 0.5})
    chosen, *others = [pixels(ready(val_split=0.2, **options).val_dataloader()) for options in same]
    assert others == [chosen, chosen]
    assert pixels(ready(val_split=0.2, split_seed=1).val_dataloader()) != chosen


def test_the_images_that_train_follow_the_split_s_seed_and_not_the_run_s() -> None:
    first, again, other = (
        pixels(ready(train_fraction=0.5, **seeds).train_dataloader())
        for seeds in ({"seed": 0}, {"seed": 1}, {"split_seed": 1})
    )
    assert first == again != other


def test_a_batch_size_that_nobody_insists_on_is_cut_to_the_data(caplog: pytest.LogCaptureFixture) -> None:
    data = ready(batch_size=64, keep_batch_size=False)
    data.setup("fit")
    assert [len(labels) for _, labels in data.train_dataloader()] == [40]
    data.trainer = SimpleNamespace(world_size=3, global_rank=0)  # type: ignore[assignment]
    data.setup("fit")
    assert data.batch_size == 13
    assert caplog.messages == [
        "data.batch_size=64 is more than the 40 training images for each device: batches are of 40",
        "data.batch_size=40 is more than the 13 training images for each device: batches are of 13",
    ]


def test_fewer_training_images_than_devices() -> None:
    data = ready(keep_batch_size=False)
    data.trainer = SimpleNamespace(world_size=41, global_rank=0)  # type: ignore[assignment]
    with pytest.raises(UserError, match=r"data.batch_size=4 is more than the 0 training images for each device"):
        data.setup("fit")


def test_train_fraction_takes_the_same_share_of_each_class() -> None:
    data = ready(train_fraction=0.5)
    labels = torch.cat([labels for _, labels in data.train_dataloader()])
    assert torch.bincount(labels).tolist() == [10, 5, 5]


def test_a_validation_set_of_its_own_is_used() -> None:
    data = ready(own_validation=True)
    assert data.evaluated_on == "validation"
    assert pixels(data.val_dataloader()) == [200, 201, 202]


def test_results_do_not_depend_on_the_evaluation_batch_size() -> None:
    assert pixels(ready(eval_batch_size=2).val_dataloader()) == pixels(ready(eval_batch_size=100).val_dataloader())


def test_normalize_computes_mean_and_deviation_from_all_training_images() -> None:
    expected = Normalization.of(part(0, (20, 10, 10)).images)
    assert ready(normalize=True).normalization == expected
    assert ready(normalize=True, train_fraction=0.5, val_split=0.2).normalization == expected


def test_normalize_takes_given_numbers() -> None:
    data = ready(normalize={"mean": [0.5, 0.5, 0.5], "std": [2, 2, 2]})
    images, _ = next(iter(data.val_dataloader()))
    torch.testing.assert_close(images[0, 0, 0, 0], torch.tensor((100 / 255 - 0.5) / 2))


def test_loaders_follow_the_trainer() -> None:
    data = ready()
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        strategy=SimpleNamespace(root_device=torch.device("meta")), global_rank=1, world_size=2
    )
    loader = data.train_dataloader()
    assert loader.data.images.device.type == "meta"
    assert (loader.rank, loader.world_size) == (1, 2)


def test_the_place_in_the_training_data_is_saved_and_given_back() -> None:
    data, resumed = ready(), ready()
    assert data.state_dict() == {"place": None, "bad_images": []}
    loader = data.train_dataloader()
    pixels(loader)
    resumed.load_state_dict(data.state_dict())
    expected, given = (torch.cat([labels for _, labels in batches]) for batches in (loader, resumed.train_dataloader()))
    assert torch.equal(given, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "data.batch_size=0: must be a whole number of at least 1"),
        ({"batch_size": 2.5}, "data.batch_size=2.5: must be a whole number of at least 1"),
        ({"eval_batch_size": -1}, "data.eval_batch_size=-1: must be a whole number of at least 1"),
        ({"seed": -1}, "data.seed=-1: must be a whole number of at least 0"),
        ({"split_seed": -1}, "data.split_seed=-1: must be a whole number of at least 0"),
        ({"crop_padding": -1}, "data.crop_padding=-1: must be a whole number of at least 0"),
        ({"train_fraction": 0}, "data.train_fraction=0: must be above 0 and at most 1"),
        ({"train_fraction": 1.5}, "data.train_fraction=1.5: must be above 0 and at most 1"),
        ({"train_fraction": "half"}, "data.train_fraction=half: must be above 0 and at most 1"),
        ({"max_bad_images": -1}, "data.max_bad_images=-1: must be a whole number of at least 0"),
        ({"flip": "yes"}, "data.flip=yes: must be true or false"),
        ({"val_split": 1}, "data.val_split=1: must be at least 0 and below 1; 0 holds out nothing"),
        ({"val_split": -0.1}, "data.val_split=-0.1: must be at least 0 and below 1"),
        (
            {"normalize": {"mean": [0.5, 0.5, 0.5]}},
            r"data.normalize={'mean': \[0.5, 0.5, 0.5\]}: must be true, false or {mean: \[r, g, b\], std: \[r, g, b\]}",
        ),
        ({"normalize": {"mean": [0, 0], "std": [1, 1]}}, r"must be true, false or .*three numbers are needed"),
        ({"normalize": "imagenet"}, "data.normalize=imagenet: must be true, false or"),
    ],
)
def test_impossible_values_are_refused_at_once(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Tiny(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"batch_size": 41},
            "data.batch_size=41 is more than the 40 training images for each device; give at most that",
        ),
        ({"batch_size": 21, "train_fraction": 0.5}, "data.batch_size=21 is more than the 20 training images"),
        ({"train_fraction": 0.04}, r"data.train_fraction=0.04: leaves no training image of 2 classes \(bee, cat\)"),
        ({"val_split": 0.04}, r"data.val_split=0.04: leaves no validation image of 2 classes \(bee, cat\)"),
        ({"val_split": 0.96}, r"data.val_split=0.96: leaves no training image of 2 classes \(bee, cat\)"),
        (
            {"val_split": 0.1, "own_validation": True},
            "data.val_split=0.1: this data set has a validation set of its own",
        ),
        (
            {"normalize": {"mean": [0], "std": [1]}},
            "data.normalize: 1 of each of mean and std given, for images of 3 channels",
        ),
    ],
)
def test_what_does_not_fit_the_images_is_refused_in_setup(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ready(**options)


def test_for_the_test_stage_the_test_images_alone_are_loaded() -> None:
    data = Tiny(batch_size=999)  # a batch that the training images would be too few for
    data.load_test = lambda: part(100, (3, 3, 3))
    data.class_names = ["ant", "bee", "cat"]
    data.prepare_test()
    data.setup("test")
    assert pixels(data.test_dataloader()) == list(range(100, 109))
    assert (data.loaded, data.input_size) == (0, (3, 6, 5))


def test_a_set_that_normalizes_by_its_training_images_loads_them_for_the_test_stage_too() -> None:
    data = Tiny(normalize=True)
    data.setup("test")
    assert data.loaded == 1
    assert data.normalization == Normalization.of(part(0, (20, 10, 10)).images)


def test_a_set_with_a_name_of_its_own_has_no_fingerprint() -> None:
    assert Tiny().fingerprint() is None


@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.5, 1.0])
def test_each_class_gives_its_share_and_nothing_is_lost(fraction: float) -> None:
    taken, left = stratified_split(LABELS, fraction, seed=0)
    assert torch.bincount(LABELS[taken], minlength=3).tolist() == [round(fraction * n) for n in (10, 20, 5)]
    assert torch.cat([taken, left]).sort().values.tolist() == list(range(35))
    assert taken.tolist() == sorted(taken.tolist())


def test_the_seed_decides() -> None:
    first, again, other = (stratified_split(LABELS, 0.5, seed)[0].tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_a_smaller_fraction_is_part_of_a_larger_one() -> None:
    few, many = (set(stratified_split(LABELS, fraction, seed=3)[0].tolist()) for fraction in (0.2, 0.6))
    assert few < many


def test_missing_classes() -> None:
    assert missing_classes(torch.tensor([0, 3, 3]), num_classes=5) == [1, 2, 4]
    assert missing_classes(LABELS, num_classes=3) == []
