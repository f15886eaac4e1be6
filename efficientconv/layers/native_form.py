"""A layer as one operator in C++: where it may be, and its images as the C++ takes them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from efficientconv.layers.cpu_forms import runs_in_cpu_form
from efficientconv.native import Library, library


def native_form(name: str, x: Tensor, *modules: nn.Module) -> Library | None:
    """Return ``name``.cpp, compiled, where it may stand for calling ``modules`` on ``x``; else None.

    It may for float32 on a CPU with the channels last, where ``runs_in_cpu_form``; not for a single value a channel, of
    which a batch norm has something to say.
    """
    fits = x.dtype == torch.float32 and x.numel() > x.shape[1] and x.is_contiguous(memory_format=torch.channels_last)
    return library(name) if fits and runs_in_cpu_form(x, *modules) else None


def by_pixels(x: Tensor) -> Tensor:
    """View (N, C, H, W), channels last, as (N, H, W, C)."""
    return x.permute(0, 2, 3, 1)


def empty_image(x: Tensor, channels: int) -> Tensor:
    """Return a new (N, channels, H, W), channels last, beside ``x``, (N, C, H, W)."""
    size = (len(x), channels, *x.shape[2:])
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
