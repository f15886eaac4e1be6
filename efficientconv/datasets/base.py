"""What every data set offers to training: loaders, class names, the size of its images, and what it is evaluated on."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from efficientconv.errors import UserError, require_whole
from efficientconv.loaders.bad_images import BadImages
from efficientconv.loaders.epochs import EpochLoader
from efficientconv.transforms.added import AddedAugmentation
from efficientconv.transforms.batch import Normalization

log = logging.getLogger(__name__)


class Labeled(Protocol):
    """Images with their classes (N,) int64, held in memory or as the paths of their files."""

    @property
    def labels(self) -> Tensor: ...  # noqa: D102

    def __len__(self) -> int: ...

    def subset(self: Part, positions: Tensor) -> Part: ...  # noqa: D102


Part = TypeVar("Part", bound=Labeled)


@dataclass(frozen=True)
class Splits(Generic[Part]):
    """A data set as its publisher divided it; most have no validation set of their own."""

    train: Part
    test: Part
    validation: Part | None = None


class ImageData(LightningDataModule, ABC, Generic[Part]):
    """Abstract base of the data sets; a leaf says in ``load`` which images there are.

    After ``prepare_data()`` and ``setup("fit")``, which both may be called again and before any trainer is there:

    - ``class_names``, ``num_classes`` and ``input_size`` (C, H, W), where C is 3, or 1 for grey images;
    - ``evaluated_on``, what ``val_dataloader()`` gives. ``test``: the test set, as the papers report it.
      ``validation``: a part held out of the training set, or the data set's own validation set; then the test set is
      left for ``test_dataloader()``;
    - ``normalization``, None where pixels are only scaled to [0, 1];
    - ``bad_images``, how many image files that cannot be decoded were left out so far, in this process.

    The loaders yield ``(images (N, C, H, W), labels (N,) int64)`` on the trainer's device, for its rank.

    Args:
        batch_size: training images in a batch, for each device.
        eval_batch_size: the same for evaluation; speed and memory only, results do not depend on it.
        keep_batch_size: a ``batch_size`` larger than the training set is an error; false cuts it to the set.
        seed: of the order and the augmentation, at least 0.
        train_fraction: part of the training images that is used, the same of every class.
        val_split: part of the training images held out for validation, the same of every class and chosen before
            ``train_fraction``; 0 evaluates on the test set.
        split_seed: of the choice of images for both, at least 0: runs of other seeds have the same images.
        normalize: by the set's mean and standard deviation (true), not at all (false), or by a given ``{mean, std}``.
        flip: mirror half of the training images left and right.
        added: to crop and flip: any of augment, random_erasing and repeats, see ``AddedAugmentation``.
        max_bad_images: how many image files that cannot be decoded are left out; the next one stops the run.

    Raises:
        UserError: a value that cannot be.
    """

    title: str  # how the data set is called on the command line, after "data="
    class_names: list[str]
    input_size: tuple[int, int, int]

    def __init__(
        self,
        *,
        batch_size: int = 128,
        keep_batch_size: bool = True,
        eval_batch_size: int = 500,
        seed: int = 0,
        train_fraction: float = 1.0,
        val_split: float = 0.0,
        split_seed: int = 0,
        normalize: bool | Mapping[str, Any] = True,
        flip: bool = True,
        added: Mapping[str, Any] | None = None,
        max_bad_images: int = 0,
    ) -> None:
        super().__init__()
        fits = isinstance(train_fraction, int | float) and 0 < train_fraction <= 1
        _require(fits, f"data.train_fraction={train_fraction}: must be above 0 and at most 1")
        fits = isinstance(val_split, int | float) and 0 <= val_split < 1
        _require(fits, f"data.val_split={val_split}: must be at least 0 and below 1; 0 holds out nothing")
        _require(isinstance(flip, bool), f"data.flip={flip}: must be true or false")
        require_whole("data.batch_size", batch_size, least=1)
        require_whole("data.eval_batch_size", eval_batch_size, least=1)
        require_whole("data.seed", seed, least=0)
        require_whole("data.split_seed", split_seed, least=0)
        require_whole("data.max_bad_images", max_bad_images, least=0)
        self.batch_size = batch_size
        self.keep_batch_size = keep_batch_size
        self.eval_batch_size = eval_batch_size
        self.seed = seed
        self.train_fraction = train_fraction
        self.val_split = val_split
        self.split_seed = split_seed
        self.normalize = _parse_normalize(normalize)
        self.flip = flip
        self.added = AddedAugmentation.parse(**(added or {}))
        self.bad_files = BadImages(max_bad_images)
        self.normalization: Normalization | None = None
        self.evaluated_on = "validation" if val_split else "test"
        self._splits: Splits[Part] | None = None
        self._test: Part | None = None
        self._train_loader: EpochLoader | None = None
        self._resume_from: dict[str, int] | None = None

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @property
    def bad_images(self) -> int:
        """How many image files that cannot be decoded were left out so far."""
        return len(self.bad_files)

    @abstractmethod
    def load(self) -> Splits[Part]:
        """Find the images, and set ``class_names``."""

    def prepare_test(self) -> None:
        """Prepare what ``setup("test")`` needs; a leaf whose test images lie apart from the others prepares no more."""
        self.prepare_data()

    def load_test(self) -> Part:
        """Find the test images, and set ``class_names``; a leaf that can leaves the training images alone."""
        return self.load().test

    def fingerprint(self) -> str | None:
        """Return what tells these images from others wherever they lie; None where the set's name does."""
        return None

    @abstractmethod
    def _describe(self, part: Part) -> None:
        """Set ``input_size`` and ``normalization``; ``part`` are the training images where these depend on them."""

    @abstractmethod
    def _loader(self, part: Part, batch_size: int, training: bool) -> EpochLoader:
        """Make a loader for the trainer's device and rank."""

    def setup(self, stage: str | None = None) -> None:
        """Load and divide the data, once; for the ``stage`` "test" the test images alone, where they suffice.

        Raises:
            UserError: the data cannot be read, or a part of it is too small for what was asked.
        """
        if stage == "test" and not self._normalizes_by_its_training_images:
            self._setup_test()
            return
        if self._splits is None:
            splits = self.load()
            self._describe(splits.train)
            self._require_fitting_normalization()
            self._splits = self._divide(splits)
            self._test = self._splits.test
            self.evaluated_on = "test" if self._splits.validation is None else "validation"
        self._fit_batch_size(len(self._splits.train) // self._world_size)

    def _fit_batch_size(self, share: int) -> None:
        """Cut a batch size to the training images that each device has, or refuse it where it was asked for."""
        if self.batch_size <= share:
            return
        larger = f"data.batch_size={self.batch_size} is more than the {share} training images for each device"
        _require(share > 0 and not self.keep_batch_size, f"{larger}; give at most that")
        self.batch_size = share
        if self._rank == 0:
            log.warning("%s: batches are of %d", larger, share)

    def _setup_test(self) -> None:
        if self._test is None:
            self._test = self.load_test()
            self._describe(self._test)
            self._require_fitting_normalization()

    @property
    def _normalizes_by_its_training_images(self) -> bool:
        return False

    def _require_fitting_normalization(self) -> None:
        given, channels = len(self.normalization.mean) if self.normalization else None, self.input_size[0]
        _require(
            given in (None, channels),
            f"data.normalize: {given} of each of mean and std given, for images of {channels} channels",
        )

    def _divide(self, splits: Splits[Part]) -> Splits[Part]:
        train, validation = splits.train, splits.validation
        if self.val_split:
            _require(
                validation is None,
                f"data.val_split={self.val_split}: this data set has a validation set of its own; give 0",
            )
            held_out, rest = stratified_split(train.labels, self.val_split, self.split_seed)
            train, validation = train.subset(rest), train.subset(held_out)
            self._require_every_class(train, "training", f"data.val_split={self.val_split}")
            self._require_every_class(validation, "validation", f"data.val_split={self.val_split}")
        if self.train_fraction < 1:
            train = train.subset(stratified_split(train.labels, self.train_fraction, self.split_seed)[0])
            self._require_every_class(train, "training", f"data.train_fraction={self.train_fraction}")
        return Splits(train, splits.test, validation)

    def _require_every_class(self, part: Part, name: str, cause: str) -> None:
        missing = [self.class_names[i] for i in missing_classes(part.labels, self.num_classes)]
        _require(not missing, f"{cause}: leaves no {name} image of {len(missing)} classes ({', '.join(missing[:5])})")

    def train_dataloader(self) -> EpochLoader:
        """Shuffled and augmented batches of the training images."""
        self._train_loader = self._loader(self._ready.train, self.batch_size, training=True)
        if self._resume_from:
            self._train_loader.load_state_dict(self._resume_from)
            self._resume_from = None
        return self._train_loader

    def val_dataloader(self) -> EpochLoader:
        """Batches of what ``evaluated_on`` names, in order."""
        return self._loader(self._ready.validation or self._ready.test, self.eval_batch_size, training=False)

    def test_dataloader(self) -> EpochLoader:
        """Batches of the test set, in order."""
        self.setup("test")
        assert self._test is not None
        return self._loader(self._test, self.eval_batch_size, training=False)

    def test_sample(self, most: int) -> EpochLoader:
        """Batches of ``most`` test images at even distances, in order; of all where there are fewer."""
        self.setup("test")
        assert self._test is not None
        positions = torch.linspace(0, len(self._test) - 1, min(most, len(self._test))).round().long()
        return self._loader(self._test.subset(positions), self.eval_batch_size, training=False)

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the training data and the bad images met, for checkpoints.

        Lightning keeps a loader's state by itself, but gives it back only in the middle of an epoch: after a whole
        number of epochs the shuffling would begin again with that of the first.
        """
        place = self._train_loader.state_dict() if self._train_loader else None
        return {"place": place, "bad_images": sorted(self.bad_files.paths)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the next training loader go on from ``state_dict``."""
        self._resume_from = state_dict["place"]
        self.bad_files.paths.update(state_dict["bad_images"])

    @property
    def _amount(self) -> str:
        """How many images there are, in words."""
        if self._splits is not None:
            return f"{len(self._splits.train)} training images"
        return f"{0 if self._test is None else len(self._test)} test images"

    @property
    def _ready(self) -> Splits[Part]:
        self.setup()
        assert self._splits is not None
        return self._splits

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    @property
    def _device(self) -> torch.device:
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")


def stratified_split(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Choose ``fraction`` of each class at random.

    With the same labels and seed, a smaller fraction is a part of a larger one.

    Args:
        labels: (N,) int64.
        fraction: of each class, rounded to whole images; 0 to 1.
        seed: of the choice, at least 0.

    Returns:
        The positions taken and those left, each int64 in ascending order.
    """
    rng = np.random.default_rng(seed)
    taken = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        shuffled = members[torch.from_numpy(rng.permutation(len(members)))]
        taken[shuffled[: round(fraction * len(members))]] = True
    return taken.nonzero().flatten(), (~taken).nonzero().flatten()


def missing_classes(labels: Tensor, num_classes: int) -> list[int]:
    """List the classes that no label (N,) names."""
    return (torch.bincount(labels, minlength=num_classes) == 0).nonzero().flatten().tolist()


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise UserError(otherwise)


def _parse_normalize(value: bool | Mapping[str, Any]) -> bool | Normalization:
    if isinstance(value, bool):
        return value
    try:
        return Normalization(tuple(value["mean"]), tuple(value["std"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"data.normalize={value}: must be true, false or {{mean: [r, g, b], std: [r, g, b]}} ({error})"
        ) from error
