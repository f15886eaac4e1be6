"""``efficientconv bench loader``: the speed of each loader beside that of a plain PyTorch ``DataLoader``.

Photographs: DALI's loader, torch's, and a plain ``DataLoader`` as torchvision's reference script sets it up, all with
the same files, crop and number of threads or processes; beside them, decoding alone. Small images: the in-memory
loader and a plain ``DataLoader``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import torch
from PIL import Image
from torch import Tensor

from efficientconv.bench.plain import plain_photographs, plain_small_images
from efficientconv.bench.rounds import Rounds, interleave
from efficientconv.datasets import ImageData, InMemoryData
from efficientconv.datasets.streamed import available_workers, dali_problem
from efficientconv.loaders import InMemoryLoader
from efficientconv.loaders.image_files import Listing
from efficientconv.loaders.stream import StreamLoader

PLAIN = "plain DataLoader"
DECODING = "decoding alone"
Batches = Iterable[tuple[Tensor, Tensor]]


def measure_loaders(data: ImageData, device: torch.device, *, images: int, rounds: int, seconds: float) -> Rounds:
    """Measure every loader that can read the data set, relative to the plain one.

    Args:
        data: the data set, set up.
        device: destination of the batches.
        images: number of photographs in one pass.
        rounds: number of measurements of each loader.
        seconds: shortest time of one measurement.

    Raises:
        UserError: the recipe has a crop or colour changes that the plain loader does not have.
    """
    template = data.train_dataloader()
    if isinstance(data, InMemoryData):
        assert isinstance(template, InMemoryLoader)
        passes = {name: one_pass(loader, device) for name, loader in memory_loaders(data, template, device).items()}
    else:
        assert isinstance(template, StreamLoader)
        files = sample(template.listing, images)
        passes = {name: one_pass(loader, device) for name, loader in photo_loaders(template, files, device).items()}
        passes[DECODING] = Decoding(files, max(1, template.workers))
    return interleave(passes, PLAIN, rounds, seconds, device)


def one_pass(loader: Batches, device: torch.device) -> Callable[[], int]:
    """Return a function that copies every batch to the device and returns the number of images."""

    def run() -> int:
        count = 0
        for images, labels in loader:
            images.to(device, non_blocking=True)
            count += len(labels.to(device, non_blocking=True))
        return count

    return run


def sample(listing: Listing, count: int) -> Listing:
    """Choose ``count`` files, the same each time; a listing with fewer files is repeated."""
    order = torch.randperm(len(listing), generator=torch.Generator().manual_seed(0))
    return listing.subset(order[torch.arange(count) % len(listing)])


def photo_loaders(template: StreamLoader, listing: Listing, device: torch.device) -> dict[str, Batches]:
    """Return the loaders of photographs by name.

    Raises:
        UserError: the plain loader lacks the template's crop or transforms.
    """
    from efficientconv.loaders.dali_loader import DaliLoader
    from efficientconv.loaders.torch_loader import TorchLoader

    loaders: dict[str, Batches] = {PLAIN: plain_photographs(template, listing, device)}
    if dali_problem(device) is None:
        loaders["dali"] = _like(template, DaliLoader, listing, device)
    return loaders | {"torch": _like(template, TorchLoader, listing, device)}


def _like(template: StreamLoader, kind: type[StreamLoader], listing: Listing, device: torch.device) -> StreamLoader:
    return kind(
        listing,
        template.crop,
        template.transforms,
        batch_size=template.batch_size,
        training=True,
        added=template.added,
        normalization=template.normalization,
        workers=template.workers,
        device=device,
        dtype=template.dtype,
        seed=template.seed,
    )


def memory_loaders(data: InMemoryData, template: InMemoryLoader, device: torch.device) -> dict[str, Batches]:
    """Return the in-memory loader and the usual ``DataLoader`` for CIFAR, by name."""
    memory = InMemoryLoader(
        template.data.to(device),
        template.batch_size,
        training=True,
        seed=template.seed,
        augmentation=data.augmentation,
        added=data.added,
        normalization=data.normalization,
    )
    return {PLAIN: plain_small_images(data, template.data, available_workers(1), device), "memory": memory}


class Decoding:
    """Decodes whole images with Pillow in threads, without crop or batches.

    Args:
        listing: the files.
        threads: number of threads; Pillow releases the interpreter's lock while it decodes.
    """

    def __init__(self, listing: Listing, threads: int) -> None:
        self.paths = listing.paths
        self.pool = ThreadPoolExecutor(threads)

    def __call__(self) -> int:
        """Decode every file; return how many there are."""
        return sum(self.pool.map(_decode, self.paths))


def _decode(path: str) -> int:
    with Image.open(path) as image:
        image.convert("RGB").load()
    return 1
