"""Batch norm in eval mode is a scale and a shift a channel, which a convolution in front of it can take over."""

from __future__ import annotations

import copy
import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

BATCH_NORMS = (_BatchNorm,)


def scale_and_shift(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return (scale, shift), each (C,), with ``norm(x) = scale·x + shift`` in eval mode.

    Args:
        norm: a batch norm with running statistics, with or without its affine parameters.

    Raises:
        ValueError: ``norm`` is no batch norm, or keeps no running statistics.
    """
    if not isinstance(norm, BATCH_NORMS) or norm.running_mean is None or norm.running_var is None:
        raise ValueError(f"norm={norm}: only a batch norm with running statistics is a fixed scale and shift")
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach()
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias.detach()


@torch.no_grad()
def begin_as(norm: nn.Module, scale: float = 1.0, shift: Tensor | None = None) -> None:
    """Let a batch norm compute ``scale·x + shift`` in eval mode; an ``nn.Identity`` in its place stays as it is.

    Args:
        norm: a batch norm with its affine parameters and running statistics, or ``nn.Identity``.
        scale: of all channels.
        shift: (C,); None for zero.
    """
    if isinstance(norm, nn.BatchNorm2d):
        norm.reset_running_stats()
        norm.weight.fill_(scale * math.sqrt(1 + norm.eps))
        norm.bias.zero_() if shift is None else norm.bias.copy_(shift)


@torch.no_grad()
def adopt_statistics(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Give a batch norm other running statistics, and weights with which it computes the same as before in eval mode.

    In training mode, on images with about these statistics, it then computes about the same.

    Args:
        norm: a batch norm with its affine parameters and running statistics.
        mean: of its input, (C,).
        variance: of its input, (C,).
    """
    scale, shift = scale_and_shift(norm)
    norm.weight.copy_(scale * (variance + norm.eps).sqrt())
    norm.bias.copy_(shift + scale * mean)
    cast(Tensor, norm.running_mean).copy_(mean)
    cast(Tensor, norm.running_var).copy_(variance)


def rescaled(conv: nn.Conv2d, scale: Tensor, shift: Tensor | None = None) -> nn.Conv2d:
    """Return a new convolution that computes ``scale·conv(x) + shift``.

    Args:
        conv: the convolution; it stays as it is.
        scale: (out_channels,), for each output channel.
        shift: (out_channels,); None for nothing to add, which leaves a convolution without bias without bias.
    """
    result = copy.deepcopy(conv)
    result.weight = nn.Parameter(conv.weight.detach() * scale.view(-1, 1, 1, 1))
    bias = rescaled_shift(None if conv.bias is None else conv.bias.detach(), scale, shift)
    result.bias = None if bias is None else nn.Parameter(bias)
    return result


def rescaled_shift(before: Tensor | None, scale: Tensor, shift: Tensor | None) -> Tensor | None:
    """Return ``scale·before + shift``, a new tensor; all (C,), None for zero."""
    if before is None:
        return None if shift is None else shift.clone()
    return before * scale if shift is None else before * scale + shift


def folded(conv: nn.Conv2d, norm: nn.Module) -> nn.Conv2d:
    """Return a new convolution that computes ``norm(conv(x))`` as in eval mode."""
    return rescaled(conv, *scale_and_shift(norm))


def folded_behind(norm: nn.Module, conv: nn.Conv2d) -> nn.Conv2d:
    """Return a new convolution that computes ``conv(norm(x))`` as in eval mode.

    Args:
        norm: a batch norm.
        conv: a convolution without padding, whose zeros the norm would not have shifted; it stays as it is.

    Raises:
        ValueError: ``conv`` pads.
    """
    if conv.padding not in ((0, 0), "valid"):
        raise ValueError(f"padding={conv.padding}: a batch norm in front goes into a convolution without padding only")
    scale, shift = (value.view(conv.groups, -1, 1, 1) for value in scale_and_shift(norm))
    weight = conv.weight.detach().unflatten(0, (conv.groups, -1))  # (g, o/g, i/g, k, k)
    result = copy.deepcopy(conv)
    result.weight = nn.Parameter((weight * scale.unsqueeze(1)).flatten(0, 1))
    bias = (weight * shift.unsqueeze(1)).sum((2, 3, 4)).flatten()
    result.bias = nn.Parameter(bias if conv.bias is None else bias + conv.bias.detach())
    return result


def folded_sequence(path: nn.Sequential) -> nn.Sequential:
    """Return a sequence that computes the same with each batch norm folded into the convolution in front of it."""
    modules: list[Any] = []
    for module in path:
        if isinstance(module, BATCH_NORMS):
            modules[-1] = folded(modules[-1], module)
        else:
            modules.append(module)
    return nn.Sequential(*modules)


class ScaleShift(nn.Module):
    """``scale·x + shift`` for each channel: what stays of a batch norm in front of a padded convolution.

    The padding's zeros are not shifted, so the shift cannot go into the convolution behind.

    Args:
        norm: the batch norm whose place it takes.
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        scale, shift = scale_and_shift(norm)
        self.scale = nn.Parameter(scale.view(-1, 1, 1))
        self.shift = nn.Parameter(shift.view(-1, 1, 1))

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Return both, each (C,)."""
        return self.scale.flatten(), self.shift.flatten()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return x * self.scale + self.shift
