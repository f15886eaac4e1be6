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


def is_inference(layer: nn.Module, x: Tensor) -> bool:
    """Tell whether ``layer`` is in eval mode and nobody can ask for a gradient of what it makes of ``x``."""
    needs_gradient = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *layer.parameters()))
    return not layer.training and not needs_gradient


def keeps_size(conv: nn.Conv2d) -> bool:
    """Tell whether a kernel is odd, and surrounded by zeros so that only the stride makes the output smaller."""
    same = tuple(dilation * (size - 1) // 2 for size, dilation in zip(conv.kernel_size, conv.dilation, strict=True))
    return all(size % 2 for size in conv.kernel_size) and conv.padding_mode == "zeros" and conv.padding == same


def by_pixels(x: Tensor) -> Tensor:
    """View (N, C, H, W), channels last, as (N, H, W, C)."""
    return x.permute(0, 2, 3, 1)


def empty_image(x: Tensor, channels: int, stride: tuple[int, int] = (1, 1)) -> Tensor:
    """Return a new (N, channels, ⌈H/s⌉, ⌈W/s⌉), channels last, beside ``x``, (N, C, H, W)."""
    rows, columns = stride
    size = (len(x), channels, -(-x.shape[2] // rows), -(-x.shape[3] // columns))
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def weight_and_bias(conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Return both in the order of the C++, zeros for a bias that is not there."""
    weight = conv.weight.contiguous()
    return weight, weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias
