"""Concatenation of channels whose gradient reaches each part laid out as the part is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from efficientconv.layers.cpu_forms import runs_in_cpu_form


def concatenate(*parts: Tensor) -> Tensor:
    """Return the parts' channels one behind the other, (N, Cᵢ, H, W) → (N, ΣCᵢ, H, W).

    Autograd hands each part a slice of the gradient, with gaps between the pixels where the channels come last. A batch
    norm in front then takes a slow way backward: 12.1 ms instead of 1.6 for 32 channels at 16×16, where closing the
    gaps is 0.3. SlimConv, channels last, is 1.44, 1.50 and 1.12 times as fast with 32 channels at 32×32, 64 at 16×16
    and 128 at 14×14.
    """
    return _Concatenation.apply(*parts) if runs_in_cpu_form(parts[0]) else torch.cat(parts, 1)


class _Concatenation(Function):
    @staticmethod
    def forward(ctx: Any, *parts: Tensor) -> Tensor:  # type: ignore[override]
        ctx.widths, ctx.formats = [part.shape[1] for part in parts], [_format(part) for part in parts]
        return torch.cat(parts, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        slices = zip(grad.split(ctx.widths, 1), ctx.formats, strict=True)
        return tuple(part.contiguous(memory_format=memory_format) for part, memory_format in slices)


def _format(x: Tensor) -> torch.memory_format:
    is_last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if is_last else torch.contiguous_format
