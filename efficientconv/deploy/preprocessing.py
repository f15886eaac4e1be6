"""From a photograph of any size to what the network takes: scaled, cut, normalised, in plain tensor operations.

Scaling with antialiasing and cutting the middle out are linear in each direction, so each is a product with a matrix
that holds the weights of the source pixels. No image library takes part, and the same lines run in torch, in an
exported program and in ONNX, for any height and width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efficientconv.datasets.image_format import ImageFormat

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's grey


class Preprocessing(nn.Module):
    """Maps (N, 3, H, W) uint8, red, green and blue, to (N, channels, size, size) float32, normalised.

    Scaled as Pillow and torchvision do it, bilinear and antialiased, but not rounded to whole levels in between: the
    pixels differ by one level of 255 at most.

    Args:
        image_format: what the network was trained to see.
    """

    mean: Tensor
    std: Tensor
    luma: Tensor

    def __init__(self, image_format: ImageFormat) -> None:
        super().__init__()
        self.format = image_format
        self.register_buffer("mean", torch.tensor(image_format.mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(image_format.std).view(-1, 1, 1), persistent=False)
        self.register_buffer("luma", torch.tensor(LUMA).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) uint8 to (N, channels, size, size) float32."""
        pixels = images.float()
        if self.format.channels == 1:
            pixels = (pixels * self.luma).sum(1, keepdim=True)
        height, width = images.shape[2:]
        shorter: Any = torch.sym_min(height, width) if self.format.keep_aspect else None
        rows, columns = (self._weights(side, shorter or side, images.device) for side in (height, width))
        scaled = torch.matmul(torch.matmul(rows, pixels), columns.t())
        return (scaled / 255 - self.mean) / self.std

    def undo(self, images: Tensor) -> Tensor:
        """Return photographs (N, 3, resize, resize) uint8 that ``forward`` turns into ``images``, but for rounding.

        What is cut off is black, and nothing has to be scaled.

        Args:
            images: (N, channels, size, size), normalised.
        """
        levels = ((images * self.std + self.mean) * 255).round().clamp(0, 255).to(torch.uint8)
        spare = self.format.resize - self.format.size
        before = _half(spare)
        return F.pad(levels.expand(-1, 3, -1, -1), (before, spare - before) * 2)

    def _weights(self, length: int, shorter: int, device: torch.device) -> Tensor:
        """Return how much of each of ``length`` source pixels is in each pixel of the crop: (size, length)."""
        scaled = self.format.resize * length // shorter  # rounded as torchvision does
        first = _half(scaled - self.format.size)
        source = torch.arange(length, device=device, dtype=torch.float32)
        step = source.new_ones(1) * length / scaled  # source pixels for each pixel of the scaled image
        centres = (torch.arange(self.format.size, device=device) + first + 0.5) * step - 0.5
        weights = (1 - (source - centres.unsqueeze(1)).abs() / step.clamp(min=1)).clamp(min=0)
        return weights / weights.sum(1, keepdim=True)


def _half(spare: int) -> int:
    """Halve, a half rounded to the even number: where torchvision's crop begins."""
    return spare // 2 + (spare + 1) // 4 - spare // 4
