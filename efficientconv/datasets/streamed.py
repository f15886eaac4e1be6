"""Data sets of photographs, which stay on disk and are decoded while they are needed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import torch

from efficientconv.datasets.base import ImageData
from efficientconv.errors import UserError, require_whole
from efficientconv.loaders.image_files import Listing
from efficientconv.loaders.stream import StreamLoader
from efficientconv.processes import cpu_cores
from efficientconv.transforms.batch import Normalization
from efficientconv.transforms.crops import CenterCrop, Crop, RandomAreaCrop
from efficientconv.transforms.image import ColorJitter, Flip, ImageTransform

log = logging.getLogger(__name__)

IMAGENET_NORMALIZATION = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
LOADERS = ("auto", "dali", "torch")
MOST_WORKERS = 16  # for a device, unless asked for


class StreamedData(ImageData[Listing]):
    """Abstract base of the data sets that are read from disk.

    Batches are in ``channels_last`` memory format, and in half precision where the trainer computes in it.

    Args:
        image_size: height and width in pixels that the network sees.
        loader: ``dali``, ``torch``, or ``auto``: DALI where it is installed and works on the training device.
        train_crop: makes the crop of training images of their size, or is one, of a size of its own; None is
            ``RandomAreaCrop``.
        eval_crop: the same for evaluation; None is ``CenterCrop``.
        color_jitter: any of brightness, contrast and saturation, as ``ColorJitter`` takes them; None changes no colour.
        workers: threads (DALI) or processes (torch) that decode, for each device; None takes the processor's cores.
        common: the arguments of ``ImageData``. ``normalize: true`` is by ImageNet's mean and standard deviation.

    Raises:
        UserError: a value that cannot be, or DALI asked for where it is not installed or, from the first loader, where
            it does not work.
    """

    def __init__(
        self,
        *,
        image_size: int = 224,
        loader: str = "auto",
        train_crop: Callable[[int], Crop] | Crop | None = None,
        eval_crop: Callable[[int], Crop] | Crop | None = None,
        color_jitter: Mapping[str, float] | None = None,
        workers: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        require_whole("data.image_size", image_size, least=1)
        if workers is not None:
            require_whole("data.workers", workers, least=0)
        require_loader(loader)
        self.loader = loader
        self.workers = workers
        self.input_size = (3, image_size, image_size)
        self.train_crop = make_crop(train_crop or RandomAreaCrop, image_size)
        self.eval_crop = make_crop(eval_crop or CenterCrop, image_size)
        self.train_transforms: list[ImageTransform] = [Flip()] if self.flip else []
        if color_jitter:
            self.train_transforms.append(ColorJitter.parse(color_jitter))
        self.normalization = IMAGENET_NORMALIZATION if self.normalize is True else self.normalize or None

    def _describe(self, part: Listing) -> None:
        """Do nothing: size and normalisation depend on no image."""

    @cached_property
    def _loader_class(self) -> type[StreamLoader]:
        """Choose the loader, and say which, once the training device is known."""
        from efficientconv.loaders.dali_loader import DaliLoader
        from efficientconv.loaders.torch_loader import TorchLoader

        problem = None if self.loader == "torch" else dali_problem(self._device)
        if problem and self.loader == "dali":
            raise UserError(f"data.loader=dali: NVIDIA DALI {problem}; use data.loader=torch")
        chosen = TorchLoader if problem or self.loader == "torch" else DaliLoader
        reader = "NVIDIA DALI" if chosen is DaliLoader else "torch's DataLoader"
        why = f": NVIDIA DALI {problem}" if problem else ""
        log.info("data=%s: %s, read by %s%s", self.title, self._amount, reader, why)
        return chosen

    def _loader(self, part: Listing, batch_size: int, training: bool) -> StreamLoader:
        return self._loader_class(
            part,
            self.train_crop if training else self.eval_crop,
            self.train_transforms if training else [],
            batch_size=batch_size,
            training=training,
            added=self.added,
            normalization=self.normalization,
            bad_files=self.bad_files,
            workers=available_workers(self._devices_here) if self.workers is None else self.workers,
            device=self._device,
            dtype=batch_dtype(str(self.trainer.precision)) if self.trainer else torch.float32,
            seed=self.seed,
            rank=self._rank,
            world_size=self._world_size,
        )

    @property
    def _devices_here(self) -> int:
        return self.trainer.num_devices if self.trainer else 1


def require_loader(asked: str) -> None:
    """Refuse ``data.loader=asked`` where there is no such loader.

    Raises:
        UserError: another name, or DALI is not installed.
    """
    if asked not in LOADERS:
        raise UserError(f"data.loader={asked}: must be one of {', '.join(LOADERS)}")
    if asked == "dali" and not dali_is_installed():
        raise UserError(
            "data.loader=dali: NVIDIA DALI is not installed; pip install nvidia-dali-cuda130 (Linux only), "
            "or use data.loader=torch"
        )


def dali_problem(device: torch.device) -> str | None:
    """Say why NVIDIA DALI makes no batches on ``device``, as what follows its name; None where it makes them.

    Besides not being installed, it may have been built for a CUDA that the GPU's driver is too old for.
    """
    if not dali_is_installed():
        return "is not installed"
    from efficientconv.loaders.dali_loader import own_words, run_smallest_pipeline

    try:
        run_smallest_pipeline(device)
    except (ImportError, OSError, RuntimeError) as error:
        return f"does not work on {device.type} here ({own_words(error)})"
    return None


def dali_is_installed() -> bool:
    """Say whether DALI could be imported, without importing it."""
    try:
        return find_spec("nvidia.dali") is not None
    except ModuleNotFoundError:  # no nvidia package at all
        return False


def make_crop(make: Callable[[int], Crop] | Crop, size: int) -> Crop:
    """Make a crop of ``size`` pixels, unless there is one.

    Raises:
        UserError: its values do not fit the size, or each other.
    """
    if isinstance(make, Crop):
        return make
    try:
        return make(size)
    except ValueError as error:
        raise UserError(f"data.image_size={size}: {error}") from error


def available_workers(devices: int) -> int:
    """Return this process's share of the cores it may use, if as many processes run as there are ``devices``."""
    return max(1, min(MOST_WORKERS, cpu_cores() // devices))


def batch_dtype(precision: str) -> torch.dtype:
    """Return the dtype of images for one of Lightning's precisions: half where the network computes in half."""
    kinds = {"16": torch.float16, "bf16": torch.bfloat16}
    return kinds.get(precision.partition("-")[0], torch.float32)
