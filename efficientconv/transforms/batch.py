"""Whole batches cropped, flipped and scaled at once, each image by its own random numbers, on whatever device they are.

The pixels are those of torchvision's ``RandomCrop(padding)``, ``RandomHorizontalFlip``, ``ToTensor`` and ``Normalize``,
bit for bit; only where the random numbers come from differs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class CropFlip:
    """The usual augmentation of small images: shift by up to ``padding`` pixels over black, and mirror half of them.

    Args:
        padding: black pixels added to each side before the crop back to the image's own size; 0 does not crop.
        flip: mirror left and right with probability 1/2.
    """

    padding: int = 4
    flip: bool = True

    def draw(self, count: int, rng: np.random.Generator) -> Tensor:
        """Draw for ``count`` images: (count, 3) int64, columns top, left and mirrored (0 or 1).

        All three columns are always drawn, so that switching the flip off leaves the crops as they were.
        """
        offsets = rng.integers(0, 2 * self.padding + 1, size=(count, 2))
        mirrored = rng.integers(0, 2, size=(count, 1))
        return torch.from_numpy(np.concatenate([offsets, mirrored], axis=1))

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Augment ``images`` (N, C, H, W) by ``draws`` (N, 3), on their device and in their dtype."""
        top, left, mirrored = draws.unbind(dim=1)
        if self.padding:
            images = crop(images, top, left, self.padding)
        if self.flip:
            images = mirror(images, mirrored.bool())
        return images


def crop(images: Tensor, top: Tensor, left: Tensor, padding: int) -> Tensor:
    """Pad each image with zeros and cut its own window of the original size out of it.

    In memory a window is a set of rows, and a row any ``W`` neighbouring pixels. So one ``index_select`` over all runs
    of ``W`` pixels does the whole batch.

    Args:
        images: (N, C, H, W).
        top: (N,) int64, first row of the window in the padded image, 0 to 2·padding.
        left: (N,) int64, its first column.
        padding: pixels added to each side.
    """
    n, channels, height, width = images.shape
    padded = F.pad(images, (padding,) * 4)
    padded_height, padded_width = padded.shape[-2:]
    planes = torch.arange(n * channels, device=images.device).view(n, channels, 1) * (padded_height * padded_width)
    rows = top.view(n, 1, 1) + torch.arange(height, device=images.device)
    starts = planes + rows * padded_width + left.view(n, 1, 1)  # (N, C, H): where each row begins
    runs = padded.flatten().unfold(0, width, 1)  # (pixels, W), a view
    return runs.index_select(0, starts.flatten()).view(n, channels, height, width)


def mirror(images: Tensor, mirrored: Tensor) -> Tensor:
    """Mirror left and right the images (N, C, H, W) chosen by ``mirrored`` (N,) bool."""
    differing = images.flip(-1).bitwise_xor_(images)  # ten times as fast as ``torch.where`` on a CPU
    return differing.mul_(mirrored.view(-1, 1, 1, 1)).bitwise_xor_(images)


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation of each channel, of pixels scaled to [0, 1].

    Raises:
        ValueError: not three of each, nor one of each for grey images, or a deviation that is not positive.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) not in (1, 3):
                raise ValueError(
                    f"{name}={list(values)}: three numbers are needed, one for each of red, green and blue, "
                    "or one for grey images"
                )
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean={list(self.mean)}, std={list(self.std)}: as many numbers are needed of each")
        if min(self.std) <= 0:
            raise ValueError(f"std={list(self.std)}: every standard deviation must be above 0")

    @classmethod
    def of(cls, images: Tensor) -> Normalization:
        """Compute it from ``images`` (N, C, H, W) uint8, exactly, by counting how often each value occurs."""
        levels = torch.arange(256, dtype=torch.float64) / 255
        counts = torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in images.unbind(dim=1)])
        shares = counts / counts.sum(dim=1, keepdim=True, dtype=torch.float64)
        mean = shares @ levels
        variance = (shares * (levels - mean.unsqueeze(1)) ** 2).sum(dim=1)
        return cls(tuple(mean.tolist()), tuple(variance.sqrt().tolist()))

    def tensors(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return mean and std as (C, 1, 1) float32 on ``device``; made once, as making them waits for a GPU."""
        mean, std = (torch.tensor(values, device=device).view(-1, 1, 1) for values in (self.mean, self.std))
        return mean, std


def to_float(images: Tensor, mean_std: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Turn (N, C, H, W) uint8 into float32 in [0, 1], and normalise where ``mean_std`` is given."""
    scaled = images.float().div_(255)
    if mean_std is None:
        return scaled
    mean, std = mean_std
    return scaled.sub_(mean).div_(std)
