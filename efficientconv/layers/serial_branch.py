"""BDRConv and SSDConv near a kernel: a base branch, and diverse channels from one convolution behind another."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from efficientconv.layers.approximation import (
    block_mask,
    factorize,
    grouped_weight,
    on_pooled_grid,
    relative_error,
    resized,
)
from efficientconv.layers.batch_norm import begin_as

if TYPE_CHECKING:
    from efficientconv.layers.bdrconv import BDRConv2d
    from efficientconv.layers.ssdconv import SSDConv2d


@torch.no_grad()
def begin_near_kernel(
    layer: BDRConv2d | SSDConv2d, base: nn.Conv2d, residual: Tensor, weight: Tensor, bias: Tensor | None
) -> float:
    """Set the parameters of a layer of odd kernels so that it begins near a kernel, and return ‖K − K̂‖/‖K‖.

    The base branch takes its part of the kernel as it is, all else is `fit_serial_branch`. The squeeze-excitation rests
    at 1/2, which the batch norm in front doubles.

    Args:
        layer: whose ``expand``, ``diversity_conv``, ``bn1``, ``bn2`` and ``se`` are set.
        base: its base branch, which is set too.
        residual: what the residual path does to the expanded channels, (o, e).
        weight: K, (o, i, k, k).
        bias: (o,), or None.
    """
    kernel, (rows, main) = weight.double(), base.weight.shape[:2]
    pooled = on_pooled_grid(kernel, layer.dilation, layer.padding, layer.stride)
    found = fit_serial_branch(pooled, main, rows, layer.diversity_conv.groups, residual.double())
    own = resized(kernel[:rows, :main], base.kernel_size)
    base.weight.copy_(own)
    layer.expand.weight.copy_(found.expand)
    layer.diversity_conv.weight.copy_(found.diverse)
    begin_as(layer.bn1)
    begin_as(layer.bn2, scale=2, shift=None if bias is None else 2 * bias)
    layer.se.rest()
    kept = pooled.square().sum() - pooled[:rows, :main].square().sum() - found.squared_error
    squared_error = kernel.square().sum() - own.square().sum() - kept / math.prod(layer.stride)
    return relative_error(squared_error, kernel)


class SerialBranch(NamedTuple):
    """Weights of a 1×1 expansion and of a grouped k×k convolution of the main and the expanded channels.

    Attributes:
        expand: (e, n, 1, 1).
        diverse: (d, (m + e)/g, k, k).
        squared_error: of all rows on the other channels, and of the diverse rows on the main ones.
    """

    expand: Tensor
    diverse: Tensor
    squared_error: Tensor


def fit_serial_branch(kernel: Tensor, main: int, base: int, groups: int, fixed: Tensor) -> SerialBranch:
    """Fit all but the base branch to a kernel, in the least squares.

    ::

        expanded = E·other                                            (e), 1×1
        rows c < base:   F·expanded
        the d others:    F·expanded + k×k of g groups over concat(main, expanded)

    On a main channel in its group a diverse row has a k×k kernel of its own, which is the target's; on the other
    channels it is the product of a k×k kernel and E, see `factorize`.

    Args:
        kernel: (o, i, k, k), the main channels first.
        main: m, number of main channels.
        base: rows that are not diverse.
        groups: g.
        fixed: F, (o, e).
    """
    expanded, taps = fixed.shape[1], kernel.shape[2] * kernel.shape[3]
    diverse = len(kernel) - base
    reach = torch.zeros(len(kernel), main + expanded, dtype=torch.bool)
    reach[base:] = block_mask(diverse, main + expanded, groups)
    at_centre = (torch.arange(taps) == taps // 2).view(-1, 1, 1)
    other = kernel[:, main:].flatten(2).movedim(2, 0)  # (T, o, n)
    start = torch.linalg.pinv(fixed) @ other[taps // 2]
    mask = reach[:, main:].expand(taps, -1, -1)
    found = factorize(other, torch.where(at_centre, fixed, 0.0), mask, start)
    on_expanded = found.weights.movedim(0, 2).unflatten(2, kernel.shape[2:])  # (o, e, k, k)
    dense = torch.cat((kernel[:, :main], on_expanded), 1)[base:]
    lost = kernel[base:, :main].square().sum((2, 3))[~reach[base:, :main]].sum()
    return SerialBranch(found.expansion[..., None, None], grouped_weight(dense, groups), found.squared_error + lost)
