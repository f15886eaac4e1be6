"""The operations that AutoAugment, RandAugment and TrivialAugment draw from, on whole batches of uint8.

The pixels are those of ``torchvision.transforms.v2.functional``, bit for bit, with its defaults: nearest neighbour, and
black beyond the border. There every image of a batch changes by the same amount; here each has its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Step:
    """One operation by one magnitude, by torchvision's names and in its units; 0 where the operation has none."""

    operation: str
    magnitude: float = 0.0


def brightness(images: Tensor, amounts: Tensor) -> Tensor:
    """Multiply by 1 + amount."""
    return images.mul((1 + amounts).float()).clamp_(0, 255).to(torch.uint8)


def color(images: Tensor, amounts: Tensor) -> Tensor:
    """Move each pixel away from its own grey, or towards it where the amount is negative."""
    return images if images.shape[1] == 1 else _blend(images, _grey(images), amounts)


def contrast(images: Tensor, amounts: Tensor) -> Tensor:
    """Move each pixel away from the mean grey of its image, or towards it."""
    return _blend(images, _grey(images).float().mean(dim=(1, 2, 3), keepdim=True), amounts)


def _grey(images: Tensor) -> Tensor:
    from torchvision.transforms.v2 import functional

    return images if images.shape[1] == 1 else functional.rgb_to_grayscale(images)


def _blend(images: Tensor, others: Tensor, amounts: Tensor) -> Tensor:
    """Return (1 + a)·image + (1 − (1 + a))·other; the sum is rounded once, as ``add(alpha=)`` rounds it."""
    factors = 1 + amounts
    return images.mul(factors.float()).addcmul_(others, (1 - factors).float()).clamp_(0, 255).to(torch.uint8)


def sharpness(images: Tensor, amounts: Tensor) -> Tensor:
    """Move each pixel but the outermost away from a weighted mean of its 3×3 pixels, or towards it."""
    if min(images.shape[-2:]) <= 2:
        return images
    pixels = images.float()
    inner = pixels[..., 1:-1, 1:-1]
    rows = pixels[..., :-2, :] + pixels[..., 1:-1, :] + pixels[..., 2:, :]
    ninefold = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smooth = ninefold.add_(inner, alpha=4).div_(13).round_()  # weights 1/13, and 5/13 in the middle
    inner.addcmul_(smooth.sub_(inner), (1 - (1 + amounts)).float())
    return pixels.clamp_(0, 255).to(torch.uint8)


def posterize(images: Tensor, amounts: Tensor) -> Tensor:
    """Keep the upper bits of each value, as many as the amount says."""
    return images & (256 - 2 ** (8 - amounts)).to(torch.uint8)


def solarize(images: Tensor, amounts: Tensor) -> Tensor:
    """Invert the values from 255·amount on."""
    thresholds = (255 * amounts).float().ceil().to(torch.uint8)
    return images ^ (images >= thresholds).to(torch.uint8).mul_(255)  # ten times as fast as ``torch.where`` on a CPU


def invert(images: Tensor, amounts: Tensor) -> Tensor:
    """Subtract from 255."""
    return images.bitwise_not()


def auto_contrast(images: Tensor, amounts: Tensor) -> Tensor:
    """Stretch the values of each channel to 0 to 255."""
    from torchvision.transforms.v2 import functional

    return functional.autocontrast(images)


def equalize(images: Tensor, amounts: Tensor) -> Tensor:
    """Flatten the histogram of each channel."""
    from torchvision.transforms.v2 import functional

    return functional.equalize(images)


def identity(images: Tensor, amounts: Tensor) -> Tensor:
    """Leave them alone."""
    return images


TONES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Identity": identity,
    "Brightness": brightness,
    "Color": color,
    "Contrast": contrast,
    "Sharpness": sharpness,
    "Posterize": posterize,
    "Solarize": solarize,
    "AutoContrast": auto_contrast,
    "Equalize": equalize,
    "Invert": invert,
}
"""Functions of images (N, C, H, W) uint8 and amounts (N, 1, 1, 1) float64, which return the changed images."""

MOVES = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
"""Operations that change where pixels are."""


def moved(image: Tensor, step: Step) -> Tensor:
    """Move one image (1, H, W) by torchvision."""
    from torchvision.transforms.v2 import functional

    if step.operation == "Rotate":
        return functional.rotate(image, step.magnitude)
    along_x = step.operation.endswith("X")
    options: dict[str, Any] = {"translate": [0, 0], "shear": [0.0, 0.0]}
    if step.operation.startswith("Translate"):
        options["translate"] = [int(step.magnitude), 0] if along_x else [0, int(step.magnitude)]
    else:
        degrees = math.degrees(math.atan(step.magnitude))
        options |= {"shear": [degrees, 0.0] if along_x else [0.0, degrees], "center": [0, 0]}
    return functional.affine(image, angle=0.0, scale=1.0, **options)


class Moves:
    """Moves each image of a batch by a step of its own.

    Nearest neighbour takes each pixel from one other, whatever the image. So torchvision moves an image of pixel
    numbers once for each step, on the CPU, and a batch on any device takes its pixels from where those numbers say.

    Args:
        steps: all that may be asked for; those that do not move anything are no part of the table.
        size: height and width in pixels.
        device: of the images.
    """

    def __init__(self, steps: Sequence[Step], size: tuple[int, int], device: torch.device) -> None:
        height, width = size
        numbers = torch.arange(1, height * width + 1, dtype=torch.float32).view(1, height, width)
        moving = [step for step in steps if step.operation in MOVES]
        sources = torch.stack([moved(numbers, step).flatten() for step in moving] or [numbers.flatten()]).int()
        rows = torch.tensor([step.operation in MOVES for step in steps]).cumsum(0) - 1
        self.rows = rows.to(device)  # of each step in the table
        self.inside = (sources > 0).to(device, torch.uint8)  # (K, H·W): 0 beyond the border
        self.sources = (sources - 1).clamp_(min=0).to(device)

    def __call__(self, images: Tensor, codes: Tensor) -> Tensor:
        """Move ``images`` (N, C, H, W) by the steps numbered ``codes`` (N,) int64."""
        rows = self.rows[codes]
        sources = self.sources[rows].long().unsqueeze(1).expand(-1, images.shape[1], -1)
        pixels = images.flatten(2).gather(2, sources)
        return pixels.mul_(self.inside[rows].unsqueeze(1)).view_as(images)


class Augmenter:
    """Does to each image of a batch the steps that were drawn for it, all images of one operation at a time.

    Args:
        steps: all that may be drawn.
        size: height and width of the images in pixels.
        device: of the images.
    """

    def __init__(self, steps: Sequence[Step], size: tuple[int, int], device: torch.device) -> None:
        self.amounts = torch.tensor([step.magnitude for step in steps], dtype=torch.float64, device=device)
        tones = [partial(self._tone, change) for change in TONES.values()]
        self.changes: list[Callable[[Tensor, Tensor], Tensor]] = [*tones, Moves(steps, size, device)]
        names = [*TONES, "Moves"]
        self.kinds = np.array([names.index("Moves" if s.operation in MOVES else s.operation) for s in steps])

    def __call__(self, images: Tensor, codes: np.ndarray) -> Tensor:
        """Change ``images`` (N, C, H, W) uint8 by the steps numbered ``codes`` (N, layers), in order."""
        for layer in codes.T:
            images = self._change(images, layer)
        return images

    def _change(self, images: Tensor, codes: np.ndarray) -> Tensor:
        kinds = self.kinds[codes]
        order = np.argsort(kinds, kind="stable")
        indices = torch.from_numpy(np.stack([order, np.argsort(order), codes[order]]))
        there, back, own = indices.to(images.device, non_blocking=True)
        counts = np.bincount(kinds, minlength=len(self.changes)).tolist()
        parts = zip(self.changes, images.index_select(0, there).split(counts), own.split(counts), strict=True)
        changed = [change(part, steps) for change, part, steps in parts if len(part)]
        return torch.cat(changed).index_select(0, back)

    def _tone(self, change: Callable[[Tensor, Tensor], Tensor], images: Tensor, codes: Tensor) -> Tensor:
        return change(images, self.amounts[codes].view(-1, 1, 1, 1))
