"""SCConv on a processor: the layer as one operator, ``native/scconv.cpp``, in training and inference.

Nothing in the layer depends on other images, and an image stays in the processor's cache from its norm to its fusion,
forward and backward. Operator by operator the layer is forty calls, which write two dozen arrays of its size.

On one core of a Xeon with AVX-512, torch 2.14, 64 images, NHWC, the layer's speed beside ``nn.Conv2d``'s is 0.9, 1.3
and 1.5, forward and backward, with 16 channels at 32×32, 32 at 16×16 and 64 at 8×8; with 8 images of 64 at 56×56, 128
at 28×28 and 256 at 14×14 it is 1.7, 2.2 and 1.9; folded 0.9, 1.2 and 1.6, and 1.9, 2.3 and 2.1. ResNet-20 with it
trains at 1.08 and folded infers at 1.25 times the plain network's speed; operator by operator at 0.25 and 0.32. At
32×32 half of the time is that of the bytes: x is read twice, and its gradient and y are written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from efficientconv.layers.ending import Ending
from efficientconv.layers.native_form import by_pixels, empty_image, is_inference, native_form
from efficientconv.layers.native_step import NativeStep
from efficientconv.native import Library

if TYPE_CHECKING:
    from efficientconv.layers.scconv import SCConv2d
    from efficientconv.layers.scconv_folded import FoldedSCConv

Sizes = tuple[int | float, ...]
WIDEST = 256  # channels; with 8 images of 512 at 7×7 it is 0.7 times as fast as operator by operator
WIDTH_APART = 16  # channels of a group that is convolved by itself: a vector's; narrower, zeros cost less


class Factors(NamedTuple):
    """What a folded layer's two kernels are products of; a norm behind the layer is in the last of them."""

    squeeze1: Tensor  # (u, upper)
    squeeze2: Tensor  # (l, lower)
    kernel: Tensor  # (o, u/groups, k, k)
    bias1: Tensor  # (o,)
    pointwise1: Tensor  # (o, u)
    pointwise2: Tensor  # (o, l)
    bias2: Tensor  # (o,)
    steepness: Tensor  # (o,): what takes the norm's scale out of the fusion's gate again

    @classmethod
    def of(cls, layer: SCConv2d) -> Factors:
        """Return those of ``layer``, in memory of their own."""
        squeeze1, squeeze2, kernel, pointwise1, made = (conv.weight.detach() for conv in _convs(layer))
        zeros = kernel.new_zeros(layer.out_channels)
        handed = torch.eye(len(squeeze2), dtype=made.dtype, device=made.device)
        pointwise2 = torch.cat((made.flatten(1), handed))
        bias = zeros if layer.bias is None else layer.bias.detach()
        squeezes, pointwise = (squeeze1.flatten(1), squeeze2.flatten(1)), (pointwise1.flatten(1), pointwise2)
        factors = (*squeezes, kernel, bias, *pointwise, zeros, torch.ones_like(zeros))
        return cls(*(factor.contiguous().clone() for factor in factors))

    def rescaled(self, scale: Tensor, shift: Tensor | None) -> Factors:
        """Return those of ``scale·y + shift``, both (o,)."""
        rows, added = scale.view(-1, 1), 0 if shift is None else shift
        return self._replace(
            kernel=self.kernel * rows[..., None, None],
            bias1=self.bias1 * scale + added,
            pointwise1=self.pointwise1 * rows,
            pointwise2=self.pointwise2 * rows,
            bias2=self.bias2 * scale + added,
            steepness=torch.where(scale == 0, 0, self.steepness / scale),  # both are the shift: any gate will do
        )


def native_library(layer: SCConv2d, x: Tensor) -> Library | None:
    """Return what computes ``layer(x)`` as one operator; None where the layer runs as it is drawn."""
    up, low = layer.squeeze1.out_channels, layer.squeeze2.out_channels
    fits = layer.padding_mode == "zeros" and layer._is_odd and layer.norm.affine and x.shape[1] == layer.in_channels
    fits = fits and _fits(layer.in_channels, layer.split[0], up, low, layer.out_channels)
    return native_form("scconv", x, layer.norm, *_convs(layer)) if fits else None


def native_folded_library(folded: FoldedSCConv, x: Tensor) -> Library | None:
    """Return what computes ``folded(x)``, without a gradient, as one operator; None where it runs by operators."""
    first, second, factors = folded.fusion.first, folded.fusion.second, folded.origin
    if factors is None or first.padding_mode != "zeros" or x.shape[1] != second.in_channels:
        return None
    widths = (first.in_channels, len(factors.squeeze1), len(factors.squeeze2), first.out_channels)
    fits = factors.kernel.dtype == x.dtype and _fits(second.in_channels, *widths) and is_inference(folded, x)
    return native_form("scconv", x, folded.norm, first, second) if fits else None


def _fits(in_channels: int, upper: int, up: int, low: int, out: int) -> bool:
    fits = in_channels % 16 == upper % 8 == up % 4 == low % 4 == (up + low) % 8 == out % 8 == 0
    return fits and max(in_channels, out) <= WIDEST


def _convs(layer: SCConv2d) -> tuple[nn.Conv2d, ...]:
    return layer.squeeze1, layer.squeeze2, layer.gwc, layer.pwc1, layer.pwc2


def reconstruct(native: Library, layer: SCConv2d, x: Tensor) -> Tensor:
    """Return ``layer(x)``; its gradient has no gradient.

    Args:
        native: of ``native_library``.
        layer: in either mode, which are the same.
        x: (N, i, H, W), channels last.
    """
    squeeze1, squeeze2, kernel, *pointwise = (conv.weight.contiguous() for conv in _convs(layer))
    bias = kernel.new_zeros(layer.out_channels) if layer.bias is None else layer.bias
    paths, threshold = (layer.split[0], len(squeeze1), len(squeeze2)), layer.threshold_of_scores
    sizes = _sizes(x, layer.gwc, layer.gwc.groups, layer.norm, paths, threshold)
    norm = (layer.norm.weight, layer.norm.bias)
    sums = x.new_empty(len(x) * (2 * layer.norm.num_groups + layer.out_channels))
    step = NativeStep(native, sizes, empty_image(x, layer.out_channels), (sums,))
    return step.run(x, [*norm, squeeze1, squeeze2, kernel, bias, *pointwise])


def reconstruct_folded(native: Library, folded: FoldedSCConv, x: Tensor, ending: Ending) -> Tensor:
    """Return ``folded(x)``, with its ending where that is native.

    Args:
        native: of ``native_folded_library``.
        folded: in eval mode.
        x: (N, i, H, W), channels last.
        ending: what follows.
    """
    first, norm, factors = folded.fusion.first, folded.norm, folded.origin
    y, paths = empty_image(x, first.out_channels), (first.in_channels, len(factors.squeeze1), len(factors.squeeze2))
    sizes = _sizes(x, first, folded.conv_groups, norm, paths, folded.threshold)
    images = (by_pixels(x), *ending.arguments(y), by_pixels(y))
    native.call("folded", sizes, (norm.weight, norm.bias, *factors), *images)
    return y


def _sizes(
    x: Tensor, conv: nn.Conv2d, groups: int, norm: nn.GroupNorm, paths: tuple[int, int, int], threshold: float
) -> Sizes:
    """Return the numbers of the C++."""
    geometry = (len(x), *x.shape[2:], *conv.kernel_size, *conv.dilation)
    apart = groups if conv.out_channels // groups % WIDTH_APART == paths[1] // groups % 4 == 0 else 1
    return *geometry, x.shape[1], *paths, conv.out_channels, norm.num_groups, groups, apart, norm.eps, threshold
