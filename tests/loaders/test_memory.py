from __future__ import annotations

from itertools import islice, pairwise
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, seed_everything

from efficientconv.datasets.digits import Digits
from efficientconv.errors import UserError
from efficientconv.loaders.memory import InMemoryLoader, LabeledImages
from efficientconv.transforms.added import AddedAugmentation
from efficientconv.transforms.batch import CropFlip, Normalization
from tests.fits import SaveAt, fitted


def numbered(count: int) -> LabeledImages:
    """Images whose label is their number and whose pixels are too."""
    labels = torch.arange(count)
    return LabeledImages(labels.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4).contiguous(), labels)


def training_loader(count: int = 10, batch_size: int = 4, **options) -> InMemoryLoader:
    return InMemoryLoader(numbered(count), batch_size, training=True, **options)


def labels_of(batches) -> list[list[int]]:
    return [labels.tolist() for _, labels in batches]


def flat(batches) -> list[int]:
    return [label for labels in labels_of(batches) for label in labels]


def test_an_epoch_shows_every_image_once_in_another_order_each_time() -> None:
    loader = training_loader()
    first, second = flat(loader), flat(loader)
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_the_last_batch_is_what_is_left() -> None:
    loader = training_loader()
    assert [len(labels) for labels in labels_of(loader)] == [4, 4, 2]
    assert len(loader) == 3


def test_images_go_with_their_labels_as_float32_in_the_range_0_to_1() -> None:
    for images, labels in training_loader():
        assert images.dtype == torch.float32
        assert labels.dtype == torch.int64
        assert torch.equal(images, (labels.float() / 255).view(-1, 1, 1, 1).expand(-1, 3, 4, 4))


def test_training_augments_and_evaluation_does_not() -> None:
    options = {"augmentation": CropFlip(2, True), "normalization": Normalization((0.1,) * 3, (0.5,) * 3)}
    (images, labels), *_ = InMemoryLoader(numbered(10), 10, training=False, **options)
    assert torch.equal(images, ((labels.float() / 255 - 0.1) / 0.5).view(-1, 1, 1, 1).expand(-1, 3, 4, 4))
    (augmented, _), *_ = InMemoryLoader(numbered(10), 10, training=True, **options)
    assert any(len(image.unique()) == 2 for image in augmented)  # the black border and the image's own value


@pytest.mark.parametrize(("count", "batch_size", "sizes"), [(9, 4, [4, 4]), (8, 4, [4, 4]), (3, 1, [1, 1, 1])])
def test_a_last_batch_of_one_image_is_dropped_unless_all_are_such(count: int, batch_size: int, sizes: list) -> None:
    loader = training_loader(count, batch_size)
    assert [len(labels) for labels in labels_of(loader)] == sizes
    assert len(loader) == len(sizes)


def test_the_seed_and_the_epoch_decide_everything() -> None:
    options = {"count": 50, "batch_size": 7, "augmentation": CropFlip(1, True)}
    one, same, other = training_loader(**options), training_loader(**options), training_loader(seed=1, **options)
    for _ in range(2):
        images, other_images = torch.cat([x for x, _ in one]), torch.cat([x for x, _ in other])
        assert torch.equal(images, torch.cat([x for x, _ in same]))
        assert not torch.equal(images, other_images)


@pytest.mark.parametrize("count", [24, 28, 29])
def test_two_ranks_see_together_what_one_process_sees_with_twice_the_batch(count: int) -> None:
    options = {"augmentation": CropFlip(1, True)}
    ranks = [training_loader(count, 4, rank=rank, world_size=2, **options) for rank in (0, 1)]
    alone = training_loader(count, 8, **options)
    assert len(ranks[0]) == len(ranks[1]) == len(alone)
    for (a, a_labels), (b, b_labels), (both, labels) in zip(*ranks, alone, strict=True):
        together = len(a) + len(b)
        assert len(labels) - together in (0, 1)  # of an odd number of images the last is left out
        assert torch.equal(torch.stack([a_labels, b_labels], dim=1).flatten(), labels[:together])
        assert torch.equal(torch.stack([a, b], dim=1).flatten(0, 1), both[:together])


@pytest.mark.parametrize(("count", "world_size"), [(10, 1), (10, 2), (11, 3), (11, 4)])
def test_evaluation_sees_every_image_exactly_once_over_all_ranks(count: int, world_size: int) -> None:
    loaders = [
        InMemoryLoader(numbered(count), 3, training=False, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    seen = [labels_of(loader) for loader in loaders]
    assert [len(batches) for batches in seen] == [len(loader) for loader in loaders]
    assert sorted(label for batches in seen for labels in batches for label in labels) == list(range(count))


def test_evaluation_is_in_order_every_time() -> None:
    loader = InMemoryLoader(numbered(10), 4, training=False)
    assert flat(loader) == flat(loader) == list(range(10))


@pytest.mark.parametrize("stopped_after", [1, 2, 3, 4, 6, 7])
def test_a_loader_given_the_state_goes_on_exactly(stopped_after: int) -> None:
    undisturbed = training_loader()
    expected = labels_of(undisturbed) + labels_of(undisturbed) + labels_of(undisturbed)
    interrupted = training_loader()
    seen = 0
    while seen < stopped_after:
        for _ in islice(interrupted, stopped_after - seen):
            seen += 1
    resumed = training_loader()
    resumed.load_state_dict(interrupted.state_dict())
    rest = []
    while len(rest) < 9 - stopped_after:
        rest += labels_of(resumed)
    assert rest == expected[stopped_after:]


def test_the_state_is_plain_numbers() -> None:
    loader = training_loader()
    next(iter(loader))
    assert loader.state_dict() == {"epoch": 0, "batch": 1, "batches": 3}
    assert {type(value) for value in loader.state_dict().values()} == {int}


def test_an_iterator_thrown_away_costs_no_epoch() -> None:
    loader = training_loader()
    iter(loader)
    assert labels_of(loader) == labels_of(training_loader())


def test_after_a_pass_left_early_the_next_is_a_whole_epoch() -> None:
    undisturbed, loader = training_loader(), training_loader()
    labels_of(undisturbed)
    next(iter(loader))
    assert labels_of(loader) == labels_of(undisturbed)


def test_a_place_in_an_epoch_of_another_length_is_refused() -> None:
    message = r"saved after batch 2 of 5, but an epoch now has 3: resume with the data, data.batch_size and number of"
    with pytest.raises(UserError, match=message):
        training_loader().load_state_dict({"epoch": 1, "batch": 2, "batches": 5})


def test_the_end_of_an_epoch_of_another_length_is_taken() -> None:
    expected, resumed = training_loader(), training_loader()
    labels_of(expected)
    resumed.load_state_dict({"epoch": 0, "batch": 5, "batches": 5})
    assert labels_of(resumed) == labels_of(expected)


class Recorder(LightningModule):
    """Learns a little, and notes the batches it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 10)
        self.trained: list[tuple[int, float]] = []
        self.validated: list[tuple[int, float]] = []

    def training_step(self, batch, batch_idx: int) -> torch.Tensor:
        images, labels = batch
        self.trained.append((self.current_epoch, (images.mean((1, 2, 3)) * labels).sum().item()))
        return torch.nn.functional.cross_entropy(self.layer(images.mean((2, 3))), labels)

    def validation_step(self, batch, batch_idx: int) -> None:
        self.validated.append((self.current_epoch, batch[0].sum().item()))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(*callbacks: Callback, resume: Path | None = None) -> Recorder:
    seed_everything(0, verbose=False)
    data = Digits(batch_size=300, eval_batch_size=200)
    return fitted(Recorder(), data, *callbacks, resume=resume, max_epochs=3)


@pytest.fixture(scope="module")
def undisturbed() -> Recorder:
    return fit()


def test_lightning_trains_and_validates_whole_epochs(undisturbed: Recorder) -> None:
    assert [epoch for epoch, _ in undisturbed.trained] == [0] * 5 + [1] * 5 + [2] * 5
    assert len({content for _, content in undisturbed.trained}) == 15
    assert [epoch for epoch, _ in undisturbed.validated] == [0, 0, 1, 1, 2, 2]
    assert len({content for _, content in undisturbed.validated}) == 2


@pytest.mark.parametrize(
    ("hook", "count", "trained"),
    [
        ("on_train_batch_end", 1, 1),
        ("on_train_batch_end", 7, 7),
        ("on_train_batch_end", 10, 10),
        ("on_validation_end", 1, 5),
        ("on_validation_end", 2, 10),
        ("on_train_epoch_end", 1, 5),
        ("on_train_epoch_end", 2, 10),
    ],
)
def test_lightning_resumes_with_exactly_the_batches_not_seen(
    undisturbed: Recorder, tmp_path: Path, hook: str, count: int, trained: int
) -> None:
    interrupted = fit(SaveAt(hook, count, tmp_path / "a.ckpt"))
    assert interrupted.trained == undisturbed.trained  # saving disturbs nothing
    resumed = fit(resume=tmp_path / "a.ckpt")
    assert resumed.trained == undisturbed.trained[trained:]
    assert torch.equal(resumed.layer.weight, undisturbed.layer.weight)


ADDED = {"augmentation": CropFlip(1, True), "added": AddedAugmentation.parse("randaugment", 0.5, 3)}


def noise(count: int = 40) -> LabeledImages:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return LabeledImages(images, torch.arange(count))


def pixels_of(loader: InMemoryLoader) -> list[torch.Tensor]:
    return [images for images, _ in loader]


def test_a_policy_and_erasing_change_what_training_sees_and_evaluation_sees_the_images() -> None:
    policy = AddedAugmentation.parse("randaugment", 0.5)
    plain, added = (InMemoryLoader(noise(), 40, training=True, added=a) for a in (None, policy))
    (images, labels), (changed, other_labels) = next(iter(plain)), next(iter(added))
    assert torch.equal(labels, other_labels)
    assert 20 < (images != changed).flatten(1).any(1).sum() <= 40
    evaluated = InMemoryLoader(noise(), 40, training=False, **ADDED)
    assert torch.equal(next(iter(evaluated))[0], noise().images / 255)


def test_a_policy_leaves_order_and_crops_as_they_are() -> None:
    crops = {"augmentation": CropFlip(2, True)}
    plain = InMemoryLoader(noise(), 40, training=True, **crops)
    added = InMemoryLoader(noise(), 40, training=True, added=AddedAugmentation.parse(None, 1e-9), **crops)
    for (images, labels), (others, other_labels) in zip(plain, added, strict=True):
        assert torch.equal(labels, other_labels)
        assert torch.equal(images, others)


@pytest.mark.parametrize("done", [1, 2, 3])
def test_what_is_added_goes_on_exactly_after_a_restart(done: int) -> None:
    options = {"training": True, "seed": 5, **ADDED}
    whole, before, after = (InMemoryLoader(noise(), 12, **options) for _ in range(3))
    expected = pixels_of(whole) + pixels_of(whole)
    seen = [images for images, _ in islice(before, done)]
    after.load_state_dict(before.state_dict())
    seen += pixels_of(after) + pixels_of(after)
    assert len(seen) == len(expected) == 8
    assert all(torch.equal(one, other) for one, other in zip(seen, expected, strict=True))


def test_two_ranks_see_together_the_same_added_augmentation() -> None:
    one = InMemoryLoader(noise(), 8, training=True, **ADDED)
    ranks = [InMemoryLoader(noise(), 4, training=True, rank=rank, world_size=2, **ADDED) for rank in range(2)]
    for (images, labels), *parts in zip(one, *ranks, strict=True):
        assert torch.equal(labels, torch.stack([own for _, own in parts], dim=1).flatten())
        assert torch.equal(images, torch.stack([own for own, _ in parts], dim=1).flatten(0, 1))


@pytest.mark.parametrize(("batch_size", "repeats", "different"), [(12, 3, 4), (12, 5, 3), (4, 1, 4), (4, 7, 1)])
def test_repeats_show_an_image_several_times_in_its_batch(batch_size: int, repeats: int, different: int) -> None:
    loader = training_loader(24, batch_size, added=AddedAugmentation(repeats=repeats))
    batches = labels_of(loader)
    assert [len(labels) for labels in batches] == [batch_size] * (24 // batch_size)
    assert {len(set(labels)) for labels in batches} == {different}
    shown = [label for labels in batches for label in set(labels)]
    assert len(shown) == len(set(shown))
    assert labels_of(loader) != batches


def test_neighbours_in_a_batch_are_different_images() -> None:
    for labels in labels_of(training_loader(24, 12, added=AddedAugmentation(repeats=3))):
        assert all(one != other for one, other in pairwise(labels))


def test_every_copy_of_an_image_is_augmented_anew() -> None:
    loader = InMemoryLoader(noise(), 12, training=True, **ADDED)
    images, labels = next(iter(loader))
    copies = images[labels == labels[0]]
    assert len(copies) == 3
    assert len(copies.flatten(1).unique(dim=0)) == 3
