"""OctConv on a processor: the layer as one operator, ``native/octconv.cpp``, in training and inference.

Nothing in the layer depends on other images, and an image stays in the processor's cache from its halving to the
repetition, forward and backward.

On one core of a Xeon with AVX-512, torch 2.14, 64 images, NHWC, the layer's speed beside ``nn.Conv2d``'s is 1.0, 1.4
and 1.5, forward and backward, with 16 channels at 32×32, 32 at 16×16 and 64 at 8×8; folded 0.9, 1.3 and 1.7. ResNet-20
with it trains at 0.99 and folded infers at 1.15 times the plain network's speed; operator by operator at 0.66 and 0.76.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from efficientconv.layers.ending import Ending
from efficientconv.layers.native_form import by_pixels, empty_image, is_inference, native_form
from efficientconv.layers.native_step import NativeStep
from efficientconv.native import Library

if TYPE_CHECKING:
    from efficientconv.layers.octconv import OctConv2d
    from efficientconv.layers.octconv_folded import FoldedOctConv

Size = tuple[int | float, ...]
Sizes = tuple[int, ...]
WIDEST = 64  # channels; wider ones were not measured


def native_library(layer: OctConv2d, x: Tensor) -> Library | None:
    """Return what computes ``layer(x)`` as one operator; None where the layer runs as it is drawn."""
    if layer.groups > 1 or layer.stride not in ((1, 1), (2, 2)) or layer.padding_mode != "zeros":
        return None
    size = tuple(x.shape[:2]) + tuple(pixels / stride for pixels, stride in zip(x.shape[2:], layer.stride, strict=True))
    fits = x.dtype == layer.weight.dtype and _fits(size, layer.kernel_size, layer.dilation, _widths(layer))
    return native_form("octconv", x) if fits else None


def native_folded_library(folded: FoldedOctConv, x: Tensor) -> Library | None:
    """Return what computes ``folded(x)``, x pooled, as one operator; None where it needs a gradient or operators."""
    full, half = folded.at_full, folded.at_half
    fits = half.padding_mode == "zeros" and half.weight.dtype == x.dtype and is_inference(folded, x)
    fits = fits and _fits(tuple(x.shape), tuple(half.kernel_size), tuple(half.dilation), _folded_widths(folded))
    native = native_form("octconv", x, full, half) if fits else None
    if native is None or half.weight[: full.out_channels, : full.in_channels].any():
        return None  # nobody has to leave the zeros where they are
    return native


def _fits(size: Size, kernel_size: Sizes, dilation: Sizes, widths: Sizes) -> bool:
    """Tell whether the C++ can: vectors of eight channels, and pairs of pixels at half the resolution."""
    fits = kernel_size[1] == 3 and kernel_size[0] % 2 == 1 and dilation[1] == 1
    fits = fits and len(size) == 4 and size[2] % 2 == size[3] % 4 == 0 and size[1] == sum(widths[:2])
    fits = fits and widths[1] + widths[3] > 0 and all(width % 8 == 0 for width in widths)
    return fits and max(sum(widths[:2]), sum(widths[2:])) <= WIDEST


def _widths(layer: OctConv2d) -> Sizes:
    """Return the widths of both frequencies, in and out: to a stride's pooling all inputs are of high frequency."""
    low_in = layer.low_in if layer.stride == (1, 1) else 0
    return layer.in_channels - low_in, low_in, layer.out_channels - layer.low_out, layer.low_out


def _folded_widths(folded: FoldedOctConv) -> Sizes:
    full, half = folded.at_full, folded.at_half
    low_in, low_out = half.in_channels - full.in_channels, half.out_channels - full.out_channels
    return full.in_channels, low_in, full.out_channels, low_out


def convolve_octaves(native: Library, layer: OctConv2d, x: Tensor) -> Tensor:
    """Return ``layer(x)``; its gradient has no gradient.

    Args:
        native: of ``native_library``.
        layer: in either mode, which are the same.
        x: (N, i, H, W), channels last.
    """
    x = layer.pool(x)
    bias = layer.weight.new_zeros(layer.out_channels) if layer.bias is None else layer.bias
    sizes = (len(x), *x.shape[2:], *layer.kernel_size, *layer.dilation, *_widths(layer))
    step = NativeStep(native, sizes, empty_image(x, layer.out_channels))
    return step.run(x, [layer.weight.contiguous(), bias.contiguous()])


def convolve_octaves_folded(native: Library, folded: FoldedOctConv, x: Tensor, ending: Ending) -> Tensor:
    """Return ``folded(x)``, x pooled, with its ending where that is native.

    Args:
        native: of ``native_folded_library``.
        folded: in eval mode.
        x: (N, i, H, W), channels last, behind the pooling of ``folded``.
        ending: what follows.
    """
    full, half = folded.at_full, folded.at_half
    weight = half.weight.clone(memory_format=torch.contiguous_format)
    weight[: full.out_channels, : full.in_channels] = full.weight
    bias = weight.new_zeros(half.out_channels) if half.bias is None else half.bias.contiguous()
    sizes = (len(x), *x.shape[2:], *half.kernel_size, *half.dilation, *_folded_widths(folded))
    y = empty_image(x, half.out_channels)
    native.call("inference", sizes, (weight, bias), by_pixels(x), *ending.arguments(y), by_pixels(y))
    return y
