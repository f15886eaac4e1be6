"""Photographs decoded while they are needed: the part that the loaders by torch and by DALI share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from efficientconv.errors import UserError
from efficientconv.loaders.bad_images import BadImages
from efficientconv.loaders.epochs import EpochLoader
from efficientconv.loaders.image_files import Listing
from efficientconv.transforms.added import AddedAugmentation
from efficientconv.transforms.batch import Normalization
from efficientconv.transforms.crops import Crop
from efficientconv.transforms.image import ImageTransform


@dataclass(frozen=True)
class Job:
    """A batch to be decoded: N files and their classes (N,) int64; the random numbers of each image, row by row.

    Attributes:
        numbers: (N, columns), of the transforms that are done image by image, while it is decoded.
        added: (N, columns), of the augmentation that is done to the whole batch.
    """

    paths: list[str]
    labels: np.ndarray
    numbers: np.ndarray
    added: np.ndarray

    def without(self, bad_files: BadImages | set[str]) -> Job:
        """Leave bad files out.

        Raises:
            UserError: no file is left.
        """
        kept = [i for i, path in enumerate(self.paths) if path not in bad_files]
        if not kept:
            raise UserError(f"all {len(self.paths)} images of a batch are bad, the first {self.paths[0]}")
        return Job([self.paths[i] for i in kept], self.labels[kept], self.numbers[kept], self.added[kept])


class StreamLoader(EpochLoader):
    """Abstract base: plans an epoch as a sequence of jobs, which leaves decode, several ahead of the one wanted.

    Images are in ``channels_last`` memory format, on the training device, in the dtype asked for. A bad image is left
    out of its batch.

    Args:
        listing: the files.
        crop: what is shown of each image.
        transforms: what is done to it after that, in order.
        added: what is done to whole batches in training, on the training device.
        batch_size: images in a batch, for each rank.
        training: shuffle; else in order.
        normalization: None leaves the pixels in [0, 1].
        bad_files: counts the files that cannot be decoded; None stops at the first.
        workers: processes (torch) or threads (DALI) that decode.
        device: where the batches are wanted.
        dtype: of the images.
        epoch: seed, rank and world_size, as ``EpochLoader`` takes them.
    """

    def __init__(
        self,
        listing: Listing,
        crop: Crop,
        transforms: Sequence[ImageTransform] = (),
        *,
        batch_size: int,
        training: bool,
        added: AddedAugmentation | None = None,
        normalization: Normalization | None = None,
        bad_files: BadImages | None = None,
        workers: int = 1,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        **epoch: int,
    ) -> None:
        self.added = (added if training else None) or AddedAugmentation()
        super().__init__(len(listing), batch_size, training=training, repeats=self.added.repeats, **epoch)
        self.listing = listing
        self.crop = crop
        self.transforms = transforms
        self.columns = sum(transform.columns for transform in (crop, *transforms))
        self.normalization = normalization
        self.bad_files = BadImages() if bad_files is None else bad_files
        self.workers = workers
        self.device = torch.device(device)
        self.dtype = dtype
        self._scale, self._shift = self._scale_and_shift()

    def _scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Return what turns 0 to 255 into normalised values, for the channels last."""
        normalization = self.normalization or Normalization(mean=(0, 0, 0), std=(1, 1, 1))
        mean, std = (values.flatten() for values in normalization.tensors(self.device))
        return 1 / (255 * std), -mean / std

    def _batches(self, first: int) -> Generator[tuple[Tensor, Tensor], None, None]:
        order = self._order()
        jobs = (self._job(order, batch) for batch in range(first, len(self)))
        with closing(self._decode(jobs)) as decoded:
            for images, job in decoded:
                yield self.added.erase(images, job.added), self._to_device(torch.from_numpy(job.labels))

    @abstractmethod
    def _decode(self, jobs: Iterator[Job]) -> Generator[tuple[Tensor, Job], None, None]:
        """Yield the normalised images (N, 3, H, W) of each job, and the job without those that cannot be decoded."""

    def _order(self) -> np.ndarray:
        """Return this rank's images of the current epoch, in order."""
        if not self.training:
            return np.arange(self.rank, self.num_images, self.world_size)
        return self._share(self._shuffled(np.random.default_rng((self.seed, self._epoch))))

    def _job(self, order: np.ndarray, batch: int) -> Job:
        chosen = order[batch * self.batch_size : (batch + 1) * self.batch_size]
        paths = [self.listing.paths[i] for i in chosen]
        numbers, added = (drawn[self.rank :: self.world_size][: len(chosen)] for drawn in self._draw(batch))
        return Job(paths, self.listing.labels.numpy()[chosen], numbers, added).without(self.bad_files)

    def _draw(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw for the batches of all ranks at once."""
        rng = np.random.default_rng((self.seed, self._epoch, batch + 1))  # a 0 would be the epoch's own generator
        count = self.batch_size * self.world_size
        drawn = [transform.draw(count, rng) for transform in (self.crop, *self.transforms)]
        return np.concatenate(drawn, axis=1), self.added.draw(count, (self.crop.size, self.crop.size), rng)

    def _finish(self, pixels: Tensor, job: Job) -> Tensor:
        """Apply the policy to ``pixels`` (N, H, W, 3) uint8, and normalise: (N, 3, H, W), ``channels_last``."""
        pixels = self.added.change(pixels.permute(0, 3, 1, 2), job.added).permute(0, 2, 3, 1).contiguous()
        return pixels.mul(self._scale).add_(self._shift).to(self.dtype).permute(0, 3, 1, 2)

    def _to_device(self, tensor: Tensor) -> Tensor:
        """Copy to the training device, without waiting for a GPU."""
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)


def with_columns(transforms: Sequence[ImageTransform], numbers: Any) -> Iterator[tuple[ImageTransform, Any]]:
    """Pair each transform with its own columns of ``numbers`` (columns,), an array or a DALI node."""
    start = 0
    for transform in transforms:
        yield transform, numbers[start : start + transform.columns]
        start += transform.columns
