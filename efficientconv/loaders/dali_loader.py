"""Photographs read, decoded and transformed by a pipeline of NVIDIA DALI, on the GPU where there is one.

The pipeline holds no order, no place and no random state of its own: file names and random numbers come from outside,
batch by batch. So each pass is one epoch whatever Lightning does, every image is seen once on any number of ranks, and
the place in a checkpoint is the same two numbers as for the other loaders.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterator
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from efficientconv.errors import UserError
from efficientconv.loaders.decode import find_bad
from efficientconv.loaders.stream import Job, StreamLoader, with_columns

PREFETCH = 2  # batches under way beside the one in use


class DaliLoader(StreamLoader):
    """Batches by DALI; see ``StreamLoader`` for the arguments.

    DALI gives up a whole pipeline at one bad image. Then Pillow looks through the files of all batches under way, the
    bad ones are left out, and a new pipeline begins where the old one was. A file cut short is found
    only when a window reaches the part that is missing: DALI does not decode the rest.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._pipeline: Any = None  # built when first used
        self._jobs: Iterator[Job] = iter(())
        self._under_way: deque[Job] = deque()

    def _decode(self, jobs: Iterator[Job]) -> Generator[tuple[Tensor, Job], None, None]:
        self._jobs = jobs
        if self._under_way:  # the last pass was left early, with batches decoded that nobody wants
            self._pipeline = None
            self._under_way.clear()
        if self._pipeline is not None:
            self._pipeline.reset()
        while (images := self._next()) is not None:
            job = self._under_way.popleft()
            yield self._finish(images, job) if self.added.policy else images.permute(0, 3, 1, 2), job

    def _next(self) -> Tensor | None:
        """Wait for the oldest batch under way, (N, H, W, 3), uint8 or finished; None after the last one."""
        if self._pipeline is None:
            self._pipeline = self._build()
        try:
            (batch,) = self._pipeline.run(self._stream())
        except StopIteration:
            return None
        except RuntimeError as error:
            self._leave_bad_out(error)
            return self._next()
        dtype = torch.uint8 if self.added.policy else self.dtype
        return torch.from_dlpack(batch.as_tensor()).to(self.device, dtype)

    def _stream(self) -> Any:
        return torch.cuda.current_stream(self.device) if self.device.type == "cuda" else None

    def _build(self) -> Any:
        from nvidia.dali import Pipeline, fn

        on_gpu = self.device.type == "cuda"
        pipeline = Pipeline(
            batch_size=self.batch_size,
            num_threads=max(1, self.workers),
            device_id=(self.device.index or 0) if on_gpu else None,
            prefetch_queue_depth=PREFETCH,
        )
        with pipeline:
            paths, *numbers = fn.external_source(self._feed, num_outputs=2 if self.columns else 1, batch=True)
            encoded = fn.io.file.read(paths)
            pipeline.set_outputs(self._transform(encoded, *numbers, device="gpu" if on_gpu else "cpu"))
        pipeline.build()
        return pipeline

    def _feed(self) -> tuple[Any, ...]:
        """Give DALI its next batch; ``StopIteration`` ends the epoch there too."""
        job = next(self._jobs)
        self._under_way.append(job)
        paths = [np.frombuffer(os.fsencode(path), np.uint8) for path in job.paths]
        return (paths, job.numbers) if self.columns else (paths,)  # it warns of inputs that are not used

    def _transform(self, encoded: Any, numbers: Any = (), *, device: str) -> Any:
        from nvidia.dali import fn, types

        columns = with_columns((self.crop, *self.transforms), numbers)
        _, own = next(columns)
        images = self.crop.in_dali(encoded, own, device)
        for transform, own in columns:
            images = transform.in_dali(images, own)
        if self.added.policy:  # which takes uint8; `_finish` normalises behind it
            return images
        mean_std = (self.normalization.mean, self.normalization.std) if self.normalization else ((0,) * 3, (1,) * 3)
        mean, std = ([255 * value for value in values] for values in mean_std)
        dtype = types.FLOAT16 if self.dtype == torch.float16 else types.FLOAT  # it has no bfloat16
        return fn.crop_mirror_normalize(images, dtype=dtype, output_layout="HWC", mean=mean, std=std)

    def _leave_bad_out(self, error: RuntimeError) -> None:
        """Go on without the bad files among those under way.

        Raises:
            UserError: there are more than allowed; or Pillow can read all of them.
        """
        waiting = list(self._under_way)
        errors = find_bad([path for job in waiting for path in job.paths])
        if not errors:
            raise UserError(
                f"DALI fails where Pillow does not; data.loader=torch may help ({own_words(error)})"
            ) from error
        for bad in errors:
            self.bad_files.add(bad)
        self._pipeline = None
        self._under_way.clear()
        self._jobs = chain((job.without(self.bad_files) for job in waiting), self._jobs)


def run_smallest_pipeline(device: torch.device) -> None:
    """Bring one number to ``device`` by DALI.

    Raises:
        ImportError: a library that it needs is missing.
        RuntimeError: it does not work there, as with a driver that is older than the CUDA it was built for.
    """
    from nvidia.dali import Pipeline, types

    on_gpu = device.type == "cuda"
    pipeline = Pipeline(batch_size=1, num_threads=1, device_id=(device.index or 0) if on_gpu else None)
    with pipeline:
        pipeline.set_outputs(types.Constant(0, device="gpu" if on_gpu else "cpu"))
    pipeline.build()
    pipeline.run()


def own_words(error: Exception) -> str:
    """Take the cause out of one of DALI's messages, which quotes a traceback before it."""
    message = str(error)
    return (message.partition("encountered:")[2] or message).strip().partition("\n")[0]
