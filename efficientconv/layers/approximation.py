"""Kernels near other kernels: the least squares of which the layers' ``approximate`` are made.

A layer that is linear, or is linear while its gates rest, has a kernel K̂ of its own. Where K̂ depends linearly on the
layer's weights, the nearest one to a kernel K is a projection. Where it is a product of two factors, either factor is a
least-squares problem while the other rests: alternating between the two lowers ‖K − K̂‖ at each step, down to a minimum
in the factors, which need not be the lowest of all.

Everything is computed in float64, and kernels are (o, i, k_h, k_w).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

STEPS = 40
PROGRESS = 1e-6  # of the squared error, below which alternating ends


def relative_error(squared_error: Tensor, kernel: Tensor) -> float:
    """Return ‖K − K̂‖/‖K‖ of the squared numerator, which rounding may have made negative; 0 where K is zero."""
    norm = kernel.square().sum()
    return float((squared_error.clamp(min=0) / norm).sqrt()) if norm else 0.0


def set_bias(parameter: Tensor | None, bias: Tensor | None) -> None:
    """Set a layer's bias, where it has one, to that of the convolution: zero where that has none."""
    if parameter is not None:
        parameter.zero_() if bias is None else parameter.copy_(bias)


def alternate(step: Callable[[], Tensor]) -> Tensor:
    """Call ``step``, which lowers the squared error and returns it, until it hardly does; return the last one."""
    error = step()
    for _ in range(STEPS):
        before, error = error, step()
        if before - error <= PROGRESS * before:
            break
    return error


def centre(kernel: Tensor) -> Tensor:
    """Return the centre tap of an odd kernel, (o, i)."""
    return kernel[:, :, kernel.shape[2] // 2, kernel.shape[3] // 2]


def resized(kernel: Tensor, size: tuple[int, ...]) -> Tensor:
    """Cut an odd kernel, or surround it with zeros, to another odd size around the same centre."""
    (top, left) = ((new - old) // 2 for new, old in zip(size, kernel.shape[2:], strict=True))
    return F.pad(kernel, (left, left, top, top))


def block_mask(out_channels: int, in_channels: int, groups: int) -> Tensor:
    """Tell which pairs of channels a convolution of so many groups connects, (o, i), boolean."""
    outputs = torch.arange(out_channels) // (out_channels // groups)
    inputs = torch.arange(in_channels) // (in_channels // groups)
    return outputs[:, None] == inputs


def grouped_weight(kernel: Tensor, groups: int) -> Tensor:
    """Take the blocks of a grouped convolution out of a dense kernel: (o, i, k, k) → (o, i/g, k, k)."""
    blocks = kernel.unflatten(0, (groups, -1)).unflatten(2, (groups, -1))  # (g, o/g, g, i/g, k, k)
    return blocks.diagonal(dim1=0, dim2=2).movedim(-1, 0).flatten(0, 1)


def on_pooled_grid(
    kernel: Tensor,
    dilation: tuple[int, int],
    padding: tuple[int, int],
    stride: tuple[int, int],
    repeat: tuple[int, int] = (1, 1),
) -> Tensor:
    """Return the weight W, as large as K, whose convolution of pooled pixels is nearest to K's of all pixels.

    The pixels are averaged over windows of v = repeat·stride, convolved with W at stride 1, and each pixel of the
    result is repeated ``repeat`` times. Along one axis tap a of W stands for K̂ = W[a]/v on a window of v pixels, for
    each of the repeated outputs. These patterns do not overlap, so that the nearest K̂ is a projection: W[a] is the sum
    of K over the window, in the mean over the repeated outputs, and ‖K̂‖² = ‖W‖²/(v_h·v_w) for one output.

    Args:
        kernel: K; its taps read the offsets dilation·tap − padding.
        dilation: of both convolutions, each in pixels of its own grid.
        padding: likewise.
        stride: of K.
        repeat: pixels of the output, along each axis, that share one value.
    """
    rows, columns = (
        _window_sums(kernel.shape[2 + axis], dilation[axis], padding[axis], stride[axis], repeat[axis]).to(kernel)
        for axis in (0, 1)
    )
    return torch.einsum("ar,oirc,bc->oiab", rows, kernel, columns)


def _window_sums(taps: int, dilation: int, padding: int, stride: int, repeat: int) -> Tensor:
    """Return for each tap of W how often its window holds each tap of K, divided by ``repeat``: (taps, taps)."""
    offsets = dilation * torch.arange(taps) - padding
    window = stride * repeat
    starts = window * offsets.view(-1, 1, 1)  # (a, 1, 1)
    places = offsets.view(1, -1, 1) + stride * torch.arange(repeat)  # (1, m, n): where tap m reads for output n
    return ((places >= starts) & (places < starts + window)).sum(-1).double() / repeat


def best_rank_one(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each filter the unit vector over its taps and the factors of its channels, (o, k·k) and (o, i).

    Their outer product is the best rank-1 approximation of the filter's (i, k·k) matrix (Eckart and Young, 1936).
    """
    u, s, v = torch.linalg.svd(kernel.flatten(2), full_matrices=False)
    return v[:, 0], u[..., 0] * s[:, :1]


class Factors(NamedTuple):
    """What `factorize` found.

    Attributes:
        weights: A_t, (T, o, e).
        expansion: E, (e, n).
        squared_error: Σ_t ‖K_t − (F_t + A_t)·E‖².
    """

    weights: Tensor
    expansion: Tensor
    squared_error: Tensor


def factorize(kernel: Tensor, fixed: Tensor, mask: Tensor, start: Tensor) -> Factors:
    """Minimise Σ_t ‖K_t − (F_t + A_t)·E‖² over A_t, zero outside its mask, and E, by alternating least squares.

    Args:
        kernel: K_t, a matrix for each tap, (T, o, n).
        fixed: F_t, (T, o, e).
        mask: where A_t may be other than zero, (T, o, e), boolean.
        start: the first E, (e, n).
    """
    found = Factors(torch.zeros_like(fixed), start, kernel.square().sum())

    def step() -> Tensor:
        nonlocal found
        weights = _masked_rows(kernel - fixed @ found.expansion, mask, found.expansion)
        stacked = (fixed + weights).flatten(0, 1)
        gram = torch.linalg.pinv(stacked.T @ stacked, hermitian=True)  # far smaller than what is stacked
        expansion = gram @ (stacked.T @ kernel.flatten(0, 1))
        error = (kernel - (fixed + weights) @ expansion).square().sum()
        found = Factors(weights, expansion, error)
        return error

    alternate(step)
    return found


def _masked_rows(target: Tensor, mask: Tensor, expansion: Tensor) -> Tensor:
    """Return A, zero outside ``mask``, that minimises ‖target − A·E‖², row by row; rows of one mask at once."""
    rows, masks = target.flatten(0, 1), mask.flatten(0, 1)
    weights = rows.new_zeros(masks.shape)
    patterns, pattern_of_row = masks.unique(dim=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        if pattern.any():
            alike, columns = (pattern_of_row == number).nonzero(), pattern.nonzero().flatten()
            weights[alike, columns] = rows[alike.flatten()] @ torch.linalg.pinv(expansion[columns])
    return weights.unflatten(0, target.shape[:2])
