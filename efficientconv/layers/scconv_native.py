"""SCConv on a processor: the layer as one operator, ``native/scconv.cpp``, in training and inference.

Nothing in the layer depends on other images, and an image stays in the processor's cache from its norm to its fusion,
forward and backward. Operator by operator the layer is forty calls, which write two dozen arrays of its size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from efficientconv.layers.native_form import by_pixels, empty_image, is_inference, native_form
from efficientconv.native import Library

if TYPE_CHECKING:
    from efficientconv.layers.scconv import SCConv2d
    from efficientconv.layers.scconv_folded import FoldedSCConv

Sizes = tuple[int | float, ...]


def native_library(layer: SCConv2d, x: Tensor) -> Library | None:
    """Return what computes ``layer(x)`` as one operator; None where the layer runs as it is drawn."""
    squeezed = (layer.squeeze1.out_channels, layer.squeeze2.out_channels)
    fits = (
        layer._is_odd
        and layer.padding_mode == "zeros"
        and _fits(layer.in_channels, layer.split[0], layer.out_channels)
        and all(width == 4 or width % 8 == 0 for width in squeezed)
        and x.shape[1] == layer.in_channels
        and layer.norm.affine
    )
    convs = (layer.squeeze1, layer.squeeze2, layer.gwc, layer.pwc1, layer.pwc2)
    return native_form("scconv", x, layer.norm, *convs) if fits else None


def native_folded_library(folded: FoldedSCConv, x: Tensor) -> Library | None:
    """Return what computes ``folded(x)``, without a gradient, as one operator; None where it runs by operators."""
    first, second = folded.fusion.first, folded.fusion.second
    fits = (
        first.padding_mode == "zeros"
        and first.groups == 1
        and _fits(second.in_channels, first.in_channels, first.out_channels)
        and x.shape[1] == second.in_channels
        and is_inference(folded, x)
    )
    return native_form("scconv", x, folded.norm, first, second) if fits else None


def _fits(in_channels: int, upper: int, out_channels: int) -> bool:
    return in_channels % 16 == upper % 8 == out_channels % 8 == 0


def reconstruct(native: Library, layer: SCConv2d, x: Tensor) -> Tensor:
    """Return ``layer(x)``; its gradient has no gradient.

    Args:
        native: of ``native_library``.
        layer: in either mode, which are the same.
        x: (N, i, H, W), channels last.
    """
    convs = (layer.gwc, layer.pwc1, layer.pwc2)
    kernel, pointwise1, pointwise2 = (conv.weight.contiguous() for conv in convs)
    bias = kernel.new_zeros(layer.out_channels) if layer.gwc.bias is None else layer.gwc.bias
    squeezes = (layer.squeeze1.weight.contiguous(), layer.squeeze2.weight.contiguous())
    norm = (layer.norm.weight, layer.norm.bias)
    sizes = (*_images(x), *layer.kernel_size, *layer.dilation, *_channels(layer), layer.norm.eps)
    sizes = (*sizes, layer.threshold_of_scores)
    return _Reconstruction.apply(native, sizes, x, *norm, *squeezes, kernel, bias, pointwise1, pointwise2)


def reconstruct_folded(native: Library, folded: FoldedSCConv, x: Tensor) -> Tensor:
    """Return ``folded(x)``.

    Args:
        native: of ``native_folded_library``.
        folded: in eval mode.
        x: (N, i, H, W), channels last.
    """
    fusion, norm = folded.fusion, folded.norm
    first, second = fusion.first, fusion.second
    upper, out = first.in_channels, first.out_channels
    lower = second.in_channels - upper
    biases = [x.new_zeros(out) if conv.bias is None else conv.bias for conv in (first, second)]
    parameters = (norm.weight, norm.bias, first.weight, biases[0], second.weight[:, upper:], biases[1])
    widths = (upper + lower, upper, upper, lower, out, norm.num_groups, 1)
    sizes = (*_images(x), *first.kernel_size, *first.dilation, *widths, norm.eps, folded.threshold)
    saved, y = _Saved.of(x, norm.num_groups, out), empty_image(x, out)
    arrays = [array.contiguous() for array in (*parameters, _steepness(fusion.scale, biases[0]))]
    native.call("folded", sizes, arrays, by_pixels(x), saved, by_pixels(y))
    return y


def _steepness(scale: Tensor | None, like: Tensor) -> Tensor:
    """Return what takes a norm's scale out of the fusion's gate again, (o,)."""
    if scale is None:
        return torch.ones_like(like)
    return torch.where(scale == 0, 0, 1 / scale)  # both sides are the shift: any gate will do


def _images(x: Tensor) -> tuple[int, int, int]:
    return len(x), x.shape[2], x.shape[3]


def _channels(layer: SCConv2d) -> tuple[int, ...]:
    squeezed = (layer.squeeze1.out_channels, layer.squeeze2.out_channels)
    return layer.in_channels, layer.split[0], *squeezed, layer.out_channels, layer.norm.num_groups, layer.gwc.groups


class _Saved(NamedTuple):
    """What the backward pass needs of the forward pass besides x."""

    mean: Tensor  # (N, groups): of the norm's groups
    reciprocal: Tensor  # (N, groups): 1/√(variance + ε)
    difference: Tensor  # (N, o): of the two paths' means

    @classmethod
    def of(cls, x: Tensor, groups: int, out: int) -> _Saved:
        return cls(*(x.new_empty(len(x), width) for width in (groups, groups, out)))


class _Reconstruction(Function):
    @staticmethod
    def forward(ctx: Any, native: Library, sizes: Sizes, x: Tensor, *parameters: Tensor) -> Tensor:  # type: ignore[override]
        groups, out = int(sizes[12]), len(parameters[5])
        saved, y = _Saved.of(x, groups, out), empty_image(x, out)
        native.call("forward", sizes, parameters, by_pixels(x), saved, by_pixels(y))
        ctx.native, ctx.sizes = native, sizes
        ctx.save_for_backward(x, *saved, *parameters)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, *others = ctx.saved_tensors
        saved, parameters = _Saved(*others[:3]), others[3:]
        by_x, by_parameters = torch.empty_like(x), [torch.empty_like(parameter) for parameter in parameters]
        grad = grad.contiguous(memory_format=torch.channels_last)
        images = (by_pixels(x), saved, by_pixels(grad), by_pixels(by_x))
        ctx.native.call("backward", ctx.sizes, parameters, *images, by_parameters)
        return None, None, by_x, *by_parameters
