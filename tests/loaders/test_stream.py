"""What both loaders promise, each of them put to the same tests."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from efficientconv.errors import UserError
from efficientconv.loaders.bad_images import BadImages
from efficientconv.loaders.dali_loader import DaliLoader
from efficientconv.loaders.decode import read_rgb
from efficientconv.loaders.image_files import Listing
from efficientconv.loaders.stream import StreamLoader
from efficientconv.loaders.torch_loader import TorchLoader
from efficientconv.transforms.added import AddedAugmentation
from efficientconv.transforms.batch import Normalization
from efficientconv.transforms.crops import CenterCrop, RandomAreaCrop
from efficientconv.transforms.image import ColorJitter, Flip

Make = Callable[..., StreamLoader]


def numbered(paths: list[str]) -> Listing:
    """Files whose label is their number."""
    return Listing(paths, torch.arange(len(paths)))


@pytest.fixture(params=[TorchLoader, DaliLoader], ids=["torch", "dali"])
def make(request: pytest.FixtureRequest, photographs: list[str]) -> Make:
    """Makes a training loader of 26 photographs, without worker processes."""

    def training_loader(paths: list[str] = photographs, training: bool = True, **options: Any) -> StreamLoader:
        crop = RandomAreaCrop(16) if training else CenterCrop(16, 20)
        transforms = [Flip(), ColorJitter(0.4)] if training else []
        options = {"batch_size": 4, "workers": 0, **options}
        return request.param(numbered(paths), crop, transforms, training=training, **options)

    return training_loader


def labels_of(batches) -> list[list[int]]:
    return [labels.tolist() for _, labels in batches]


def flat(batches) -> list[int]:
    return [label for labels in labels_of(batches) for label in labels]


def assert_equal(some: list[tuple[Tensor, Tensor]], others: list[tuple[Tensor, Tensor]]) -> None:
    assert len(some) == len(others)
    for batches in zip(some, others, strict=True):
        (images, labels), (other_images, other_labels) = batches
        assert torch.equal(labels, other_labels)
        assert torch.equal(images, other_images)


def test_each_pass_is_one_epoch_of_every_image_in_another_order(make: Make) -> None:
    loader = make()
    epochs = [flat(loader) for _ in range(4)]
    assert all(sorted(epoch) == list(range(26)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert len(loader) == 7


def test_every_epoch_shows_other_crops(make: Make, photographs: list[str]) -> None:
    loader = make(photographs[:1], batch_size=1)
    (first,), (second,) = ([images for images, _ in loader] for _ in range(2))
    assert not torch.equal(first, second)


def test_batches_are_what_training_expects(make: Make) -> None:
    images, labels = next(iter(make()))
    assert (images.shape, images.dtype) == ((4, 3, 16, 16), torch.float32)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert (labels.shape, labels.dtype) == ((4,), torch.int64)
    assert 0 <= images.min() < images.max() <= 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(make: Make, dtype: torch.dtype) -> None:
    halves, expected = next(iter(make(dtype=dtype)))[0], next(iter(make()))[0]
    assert halves.dtype == dtype
    assert halves.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(halves.float(), expected, rtol=0.01, atol=0.001)


def test_normalised_as_told(make: Make) -> None:
    normalization = Normalization((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    plain, normalised = (next(iter(make(normalization=n)))[0] for n in (None, normalization))
    mean, std = normalization.tensors(torch.device("cpu"))
    torch.testing.assert_close(normalised, (plain - mean) / std, rtol=1e-4, atol=1e-4)


def test_a_batch_that_is_kept_stays_as_it_was(make: Make) -> None:
    kept = list(make())
    assert_equal(kept, [(images.clone(), labels) for images, labels in make()])


def test_evaluation_is_in_order_every_time(make: Make) -> None:
    loader = make(training=False)
    assert flat(loader) == flat(loader) == list(range(26))


def test_evaluation_shows_the_middle(make: Make, photographs: list[str]) -> None:
    shown = 255 * torch.cat([images for images, _ in make(training=False)])
    crop = CenterCrop(16, 20)
    expected = torch.stack([crop(read_rgb(path), np.empty(0)) for path in photographs])
    assert (shown - expected).abs().mean((1, 2, 3)).max() <= 1.5


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_evaluation_sees_every_image_exactly_once_over_all_ranks(make: Make, world_size: int) -> None:
    loaders = [make(training=False, rank=rank, world_size=world_size) for rank in range(world_size)]
    for _ in range(2):
        seen = [labels_of(loader) for loader in loaders]
        assert [len(batches) for batches in seen] == [len(loader) for loader in loaders]
        assert sorted(label for batches in seen for labels in batches for label in labels) == list(range(26))


@pytest.mark.parametrize("count", [22, 23, 24])
def test_two_ranks_see_together_what_one_process_sees_with_twice_the_batch(
    make: Make, photographs: list[str], count: int
) -> None:
    ranks = [make(photographs[:count], rank=rank, world_size=2) for rank in (0, 1)]
    alone = make(photographs[:count], batch_size=8)
    assert len(ranks[0]) == len(ranks[1]) == len(alone)
    for (a, a_labels), (b, b_labels), (both, labels) in zip(*ranks, alone, strict=True):
        together = len(a) + len(b)
        assert len(labels) - together in (0, 1)  # of an odd number of images the last is left out
        assert torch.equal(torch.stack([a_labels, b_labels], dim=1).flatten(), labels[:together])
        assert torch.equal(torch.stack([a, b], dim=1).flatten(0, 1), both[:together])


def test_the_seed_decides(make: Make) -> None:
    one, same, other = make(seed=1), make(seed=1), make(seed=2)
    assert_equal(list(one), list(same))
    assert flat(one) != flat(other)


@pytest.mark.parametrize("stopped_after", [1, 3, 6, 7, 9])
def test_a_loader_given_the_state_goes_on_exactly(make: Make, stopped_after: int) -> None:
    undisturbed, interrupted, resumed = make(), make(), make()
    expected = [batch for _ in range(3) for batch in undisturbed]
    seen = 0
    while seen < stopped_after:
        seen += sum(1 for _ in islice(interrupted, stopped_after - seen))
    resumed.load_state_dict(interrupted.state_dict())
    rest: list[tuple[Tensor, Tensor]] = []
    while len(rest) < len(expected) - stopped_after:
        rest += resumed
    assert_equal(rest, expected[stopped_after:])


def test_the_state_is_plain_numbers(make: Make) -> None:
    loader = make()
    list(islice(loader, 2))
    assert loader.state_dict() == {"epoch": 0, "batch": 2, "batches": 7}


def test_after_a_pass_left_early_the_next_is_a_whole_epoch(make: Make) -> None:
    undisturbed, loader = make(), make()
    flat(undisturbed)
    left = iter(loader)
    next(left)
    assert flat(loader) == flat(undisturbed)
    assert flat(loader) == flat(undisturbed)
    assert list(left) == []


def test_a_pass_not_asked_for_its_end_is_a_whole_epoch(make: Make) -> None:
    """As Lightning does: it counts the batches, and never asks for one more."""
    undisturbed, loader = make(), make()
    for _ in range(3):
        batches = iter(loader)
        assert [next(batches)[1].tolist() for _ in range(7)] == labels_of(undisturbed)


@pytest.fixture
def spoilt(tmp_path: Path, write_photographs: Callable[..., list[str]]) -> tuple[list[str], list[str]]:
    """26 files of which two cannot be decoded: all, and those two."""
    paths = write_photographs(tmp_path, 26)
    Path(paths[5]).write_text("this is not an image")
    whole = Path(paths[20]).read_bytes()
    Path(paths[20]).write_bytes(whole[: len(whole) // 2])
    return paths, [paths[5], paths[20]]


def test_a_bad_image_stops_the_run_with_its_path(make: Make, spoilt: tuple) -> None:
    paths, (not_an_image, _) = spoilt
    with pytest.raises(UserError, match=rf"{not_an_image}: not an image, or a damaged one \(no image format"):
        list(make(paths, training=False))


@pytest.mark.parametrize("training", [True, False])
def test_damaged_images_are_left_out_and_counted(
    make: Make, spoilt: tuple, training: bool, caplog: pytest.LogCaptureFixture
) -> None:
    paths, bad = spoilt
    found = BadImages(limit=2)
    loader = make(paths, training, bad_files=found)
    with caplog.at_level(logging.WARNING):
        first, second = list(loader), list(loader)
    assert found.paths == set(bad)
    assert sorted(flat(first)) == [label for label in range(26) if label not in (5, 20)]
    assert len(first) == len(second) == len(loader) == 7
    assert sorted(record.message.split(":")[0] for record in caplog.records) == bad  # once, not in every epoch
    undisturbed = make(training=training)
    for batches in (first, second):
        for (images, labels), (all_images, all_labels) in zip(batches, undisturbed, strict=True):
            kept = torch.isin(all_labels, torch.tensor([5, 20]), invert=True)
            assert torch.equal(labels, all_labels[kept])
            assert torch.equal(images, all_images[kept])


def test_one_bad_image_too_many(make: Make, spoilt: tuple) -> None:
    paths, _ = spoilt
    with pytest.raises(UserError, match=r"not an image.*: data.max_bad_images=1 leaves out 1"):
        list(make(paths, bad_files=BadImages(limit=1)))


def test_a_file_that_disappears_counts_as_bad(make: Make, spoilt: tuple) -> None:
    paths, bad = spoilt
    Path(paths[7]).unlink()
    found = BadImages(limit=3)
    list(make(paths, bad_files=found))
    assert found.paths == {*bad, paths[7]}


def test_a_batch_of_nothing_but_bad_images(make: Make, spoilt: tuple) -> None:
    paths, bad = spoilt
    message = rf"all 2 images of a batch are bad, the first {bad[0]}"
    with pytest.raises(UserError, match=message):
        list(make([*bad, *paths[:2]], training=False, batch_size=2, bad_files=BadImages(limit=9)))


def test_policy_erasing_and_repeats_go_on_exactly_after_a_restart(make: Make) -> None:
    options = {"added": AddedAugmentation.parse("trivialaugment", 0.5, 2), "seed": 3}
    plain, whole, before, after = make(added=AddedAugmentation(repeats=2), seed=3), *(make(**options) for _ in range(3))
    expected = list(whole)
    seen = list(islice(before, 3))
    after.load_state_dict(before.state_dict())
    assert_equal(seen + list(after), expected)
    for (images, labels), (changed, other_labels) in zip(plain, expected, strict=True):
        assert torch.equal(labels, other_labels)
        assert not torch.equal(images, changed)
        assert changed.is_contiguous(memory_format=torch.channels_last)


def test_a_bad_image_leaves_the_others_their_random_numbers(make: Make, photographs: list[str], tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_text("not an image")
    paths = [str(bad) if i == 7 else path for i, path in enumerate(photographs)]
    added = AddedAugmentation.parse("randaugment", 1.0)
    whole, rest = make(added=added), make(paths, added=added, bad_files=BadImages(1))
    for (images, labels), (kept, kept_labels) in zip(whole, rest, strict=True):
        assert torch.equal(labels[labels != 7], kept_labels)
        assert torch.equal(images[labels != 7], kept)
