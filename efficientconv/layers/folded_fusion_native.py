"""The folded fusion on a processor: one pass for each image, ``native/spconv.cpp``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import Tensor, nn

from efficientconv.layers.cpu_forms import has_hooks
from efficientconv.layers.ending import Ending
from efficientconv.layers.native_form import by_pixels, empty_image, is_inference, keeps_size, native_form
from efficientconv.layers.spconv_native import WIDEST, at_stride_1
from efficientconv.native import Library

if TYPE_CHECKING:
    from efficientconv.layers.folded_fusion import FoldedFusion


def native_library(form: FoldedFusion, x: Tensor) -> Library | None:
    """Return what computes ``form(x)`` as one operator; None where it runs as it is written."""
    first, second = form.first, form.second
    representative, stride = first.in_channels, first.stride
    fits = (
        x.shape[1] in (second.in_channels, representative + second.in_channels)
        and representative % 8 == (x.shape[1] - representative) % 8 == first.out_channels % 8 == 0
        and representative < x.shape[1] <= WIDEST // math.prod(stride)
        and first.out_channels <= WIDEST
        and keeps_size(first)
        and x.shape[2] % stride[0] == x.shape[3] % stride[1] == 0
        and (isinstance(form.pool, nn.Identity) if stride == (1, 1) else form.beside is not None)
        and is_inference(form, x)
    )
    if not fits or has_hooks(form.pool):
        return None
    return native_form("spconv", x, first, second, *filter(None, (form.beside,)))


def inference(native: Library, form: FoldedFusion, x: Tensor, ending: Ending) -> Tensor:
    """Return ``form(x)``, without a gradient, and with its ending where that is native.

    Args:
        native: of ``native_library``.
        form: in eval mode.
        x: (N, i, H, W), channels last.
        ending: what follows.
    """
    second = form.second.weight[:, form.first.in_channels + form.second.in_channels - x.shape[1] :]
    if form.beside is None:
        function, grouped, pointwise = "dense_inference", form.first.weight, form.first.weight  # a part of it
    else:
        function = "inference"
        x, grouped, pointwise = at_stride_1(native, form.first, form.beside, x)
    y, scale = empty_image(x, form.first.out_channels), x.new_empty(0) if form.scale is None else form.scale
    parameters = _parameters(form, grouped, pointwise, second)
    images = (by_pixels(x), *ending.arguments(y), by_pixels(y))
    native.call(function, _sizes(form, x, grouped, pointwise), parameters, scale, *images)
    return y


def _sizes(form: FoldedFusion, x: Tensor, grouped: Tensor, pointwise: Tensor) -> tuple[int | float, ...]:
    first = form.first
    kernel = (*grouped.shape[2:], *(first.dilation if first.stride == (1, 1) else (1, 1)))
    channels = (x.shape[1], pointwise.shape[1], first.out_channels, form.groups)
    return len(x), *x.shape[2:], *kernel, *channels, 0.0, 0.0


def _parameters(form: FoldedFusion, grouped: Tensor, pointwise: Tensor, second: Tensor) -> list[Tensor]:
    """Return the weights in the order of the C++, with norms that do nothing but add the biases."""
    zeros, ones = second.new_zeros(len(second)), second.new_ones(len(second))
    grouped, pointwise, second = grouped.contiguous(), pointwise.contiguous(), second.contiguous()
    bias1, bias2 = (zeros if conv.bias is None else conv.bias for conv in (form.first, form.second))
    return [grouped, pointwise, ones, bias1, second, bias2, ones, zeros]
