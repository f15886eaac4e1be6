"""OctConv on a processor: the layer as one operator, ``native/octconv.cpp``, in training and inference.

Nothing in the layer depends on other images, and an image stays in the processor's cache from its halving to the
repetition, forward and backward.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from efficientconv.layers.native_form import by_pixels, empty_image, is_inference, native_form
from efficientconv.native import Library

if TYPE_CHECKING:
    from efficientconv.layers.octconv import OctConv2d
    from efficientconv.layers.octconv_folded import FoldedOctConv

Sizes = tuple[int, ...]
WIDEST = 64  # channels; wider ones were not measured


def native_library(layer: OctConv2d, x: Tensor) -> Library | None:
    """Return what computes ``layer(x)`` as one operator; None where the layer runs as it is drawn."""
    if layer.groups > 1 or layer.stride != (1, 1) or layer.padding_mode != "zeros" or x.shape[1] != layer.in_channels:
        return None
    fits = _fits(x, layer.kernel_size, layer.dilation, _widths(layer))
    return native_form("octconv", x) if fits and layer.weight.dtype == x.dtype else None


def native_folded_library(folded: FoldedOctConv, x: Tensor) -> Library | None:
    """Return what computes ``folded(x)``, without a gradient, as one operator; None where it runs by operators."""
    full, half = folded.at_full, folded.at_half
    fits = half.padding_mode == "zeros" and x.shape[1] == half.in_channels and half.weight.dtype == x.dtype
    fits = fits and isinstance(folded.pool, nn.Identity) and is_inference(folded, x)
    fits = fits and _fits(x, tuple(half.kernel_size), tuple(half.dilation), _folded_widths(folded))
    native = native_form("octconv", x, full, half) if fits else None
    if native is None or half.weight[: full.out_channels, : full.in_channels].any():
        return None  # nobody has to leave the zeros where they are
    return native


def _fits(x: Tensor, kernel_size: tuple[int, ...], dilation: tuple[int, ...], widths: Sizes) -> bool:
    """Tell whether the C++ can: vectors of eight channels, and pairs of pixels at half the resolution."""
    fits = kernel_size[1] == 3 and kernel_size[0] % 2 == 1 and dilation[1] == 1
    fits = fits and x.dim() == 4 and x.shape[2] % 2 == x.shape[3] % 4 == 0
    fits = fits and all(width and width % 8 == 0 for width in widths)
    return fits and max(sum(widths[:2]), sum(widths[2:])) <= WIDEST


def _widths(layer: OctConv2d) -> Sizes:
    return layer.in_channels - layer.low_in, layer.low_in, layer.out_channels - layer.low_out, layer.low_out


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
    bias = layer.weight.new_zeros(layer.out_channels) if layer.bias is None else layer.bias
    sizes = (len(x), *x.shape[2:], *layer.kernel_size, *layer.dilation, *_widths(layer))
    result: Tensor = _OctaveConvolution.apply(native, sizes, x, layer.weight.contiguous(), bias.contiguous())
    return result


@torch.no_grad()
def convolve_octaves_folded(native: Library, folded: FoldedOctConv, x: Tensor) -> Tensor:
    """Return ``folded(x)``.

    Args:
        native: of ``native_folded_library``.
        folded: in eval mode.
        x: (N, i, H, W), channels last.
    """
    full, half = folded.at_full, folded.at_half
    weight = half.weight.clone(memory_format=torch.contiguous_format)
    weight[: full.out_channels, : full.in_channels] = full.weight
    bias = weight.new_zeros(half.out_channels) if half.bias is None else half.bias.contiguous()
    sizes = (len(x), *x.shape[2:], *half.kernel_size, *half.dilation, *_folded_widths(folded))
    y = empty_image(x, half.out_channels)
    native.call("forward", sizes, (weight, bias), by_pixels(x), by_pixels(y))
    return y


class _OctaveConvolution(Function):
    @staticmethod
    def forward(ctx: Any, native: Library, sizes: Sizes, x: Tensor, *parameters: Tensor) -> Tensor:  # type: ignore[override]
        y = empty_image(x, len(parameters[0]))
        native.call("forward", sizes, parameters, by_pixels(x), by_pixels(y))
        ctx.native, ctx.sizes = native, sizes
        ctx.save_for_backward(x, *parameters)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, *parameters = ctx.saved_tensors
        by_x, by_parameters = torch.empty_like(x), [torch.empty_like(parameter) for parameter in parameters]
        grad = grad.contiguous(memory_format=torch.channels_last)
        images = (by_pixels(x), by_pixels(grad), by_pixels(by_x))
        ctx.native.call("backward", ctx.sizes, parameters, *images, by_parameters)
        return None, None, by_x, *by_parameters
