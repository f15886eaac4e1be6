"""Which taps of a kernel lie on the image, where its padding is zeros."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F


@lru_cache(maxsize=32)
def unfolded_ones(
    height: int,
    width: int,
    kernel_size: tuple[int, int],
    dilation: tuple[int, int],
    padding: tuple[int, int],
    dtype: torch.dtype,
) -> Tensor:
    """Return for each tap of a kernel and each pixel 1 where the tap lies on the image and else 0, (k², H·W)."""
    with torch.inference_mode(False):  # what is kept may take part in training later
        return F.unfold(torch.ones(1, 1, height, width, dtype=dtype, device="cpu"), kernel_size, dilation, padding)[0]
