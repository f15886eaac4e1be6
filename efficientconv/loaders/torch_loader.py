"""Photographs decoded by Pillow and transformed by torchvision, in the worker processes of torch's ``DataLoader``."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from efficientconv.loaders.bad_images import BadImageError
from efficientconv.loaders.decode import read_rgb
from efficientconv.loaders.stream import Job, StreamLoader, with_columns
from efficientconv.transforms.image import ImageTransform

PREFETCH = 2  # batches for each worker


class TorchLoader(StreamLoader):
    """Batches by ``DataLoader``; see ``StreamLoader`` for the arguments. Without workers, this process decodes.

    The workers stay from epoch to epoch. They are sent file names and random numbers and send back uint8, a quarter of
    what float32 would take; crop, flip and colours are done there, the rest on the training device.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._jobs = JobSource()
        self._loader = DataLoader(
            Decoder((self.crop, *self.transforms)),
            batch_size=None,  # a job is a batch
            sampler=self._jobs,
            num_workers=self.workers,
            prefetch_factor=PREFETCH if self.workers else None,
            persistent_workers=self.workers > 0,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # of its own, so that the global one stays as it is
        )

    def _decode(self, jobs: Iterator[Job]) -> Generator[tuple[Tensor, Job], None, None]:
        self._jobs.restart(jobs)
        if self.workers:
            gc.collect()  # a forked worker that collects a dead pipeline of DALI's waits for ever
        for pixels, errors in self._loader:
            job = self._jobs.sent.popleft()
            for error in errors:
                self.bad_files.add(error)
            job = job.without({error.path for error in errors})
            yield self._finish(pixels.to(self.device, non_blocking=True), job), job


class JobSource(Iterable[Job]):
    """Hands the jobs of one pass to ``DataLoader`` in place of a sampler, and remembers those on their way."""

    def __init__(self) -> None:
        self.sent: deque[Job] = deque()
        self._jobs: Iterator[Job] = iter(())

    def restart(self, jobs: Iterator[Job]) -> None:
        """Forget the last pass, which may have been left early."""
        self._jobs = jobs
        self.sent.clear()

    def __iter__(self) -> Iterator[Job]:
        for job in self._jobs:
            self.sent.append(job)
            yield job


class Decoder(Dataset[tuple[Tensor, list[BadImageError]]]):
    """What a worker does with a job: the pixels (N, H, W, 3) uint8 of the images that could be decoded, and the errors.

    Args:
        transforms: the crop, and what follows it.
    """

    def __init__(self, transforms: tuple[ImageTransform, ...]) -> None:
        self.transforms = transforms

    def __getitem__(self, job: Job) -> tuple[Tensor, list[BadImageError]]:
        images: list[Tensor] = []
        errors: list[BadImageError] = []
        for path, numbers in zip(job.paths, job.numbers, strict=True):
            try:
                image = read_rgb(path)
            except BadImageError as error:
                errors.append(error)
                continue
            for transform, own in with_columns(self.transforms, numbers):
                image = transform(image, own)
            images.append(image.permute(1, 2, 0))
        return torch.stack(images) if images else torch.empty(0), errors
