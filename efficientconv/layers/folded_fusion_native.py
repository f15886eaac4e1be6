"""The folded fusion on a processor: one pass for each image, ``native/spconv.cpp``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from efficientconv.layers.ending import Ending
from efficientconv.layers.native_form import by_pixels, empty_image, for_several, is_inference, keeps_size, native_form
from efficientconv.layers.spconv_native import WIDEST
from efficientconv.native import Library

if TYPE_CHECKING:
    from efficientconv.layers.folded_fusion import FoldedFusion


def native_library(form: FoldedFusion, x: Tensor) -> Library | None:
    """Return what computes ``form(x)`` as one operator; None where it runs as it is written."""
    first, second = form.first, form.second
    representative = first.in_channels
    fits = (
        x.shape[1] in (second.in_channels, representative + second.in_channels)
        and representative % 8 == (x.shape[1] - representative) % 8 == first.out_channels % 8 == 0
        and representative < x.shape[1] <= WIDEST
        and first.out_channels <= WIDEST
        and isinstance(form.pool, nn.Identity)
        and first.stride == (1, 1)
        and keeps_size(first)
        and is_inference(form, x)
    )
    native = native_form("spconv", x, first, second, *filter(None, (form.beside,))) if fits else None
    return for_several(native, x)


def inference(native: Library, form: FoldedFusion, x: Tensor, ending: Ending) -> Tensor:
    """Return ``form(x)``, without a gradient, and with its ending where that is native.

    Args:
        native: of ``native_library``.
        form: in eval mode.
        x: (N, i, H, W), channels last.
        ending: what follows.
    """
    is_dense = form.beside is None
    y, sizes = empty_image(x, form.first.out_channels), _sizes(form, x)
    images = (_sharpness(form, x), by_pixels(x), *ending.arguments(y), by_pixels(y))
    native.call("dense_inference" if is_dense else "inference", sizes, _parameters(form, x), *images)
    return y


def _sizes(form: FoldedFusion, x: Tensor) -> tuple[int | float, ...]:
    first = form.first
    channels = (x.shape[1], first.in_channels, first.out_channels, form.groups)
    return len(x), *x.shape[2:], *first.kernel_size, *first.dilation, *channels, 0.0, 0.0


def _parameters(form: FoldedFusion, x: Tensor) -> list[Tensor]:
    """Return the weights in the order of the C++, with norms that do nothing but add the biases."""
    zeros, ones = x.new_zeros(form.first.out_channels), x.new_ones(form.first.out_channels)
    first = form.first.weight.contiguous()
    beside = first if form.beside is None else form.beside.weight.contiguous()
    second = form.second.weight[:, form.first.in_channels + form.second.in_channels - x.shape[1] :].contiguous()
    bias1, bias2 = (zeros if conv.bias is None else conv.bias for conv in (form.first, form.second))
    return [first, beside, ones, bias1, second, bias2, ones, zeros]


def _sharpness(form: FoldedFusion, x: Tensor) -> Tensor:
    """Return what takes the scale of a norm that was taken over out of the gate; without one, both sides are equal."""
    if form.scale is None:
        return x.new_ones(form.first.out_channels)
    return torch.where(form.scale == 0, 0, 1 / form.scale)
