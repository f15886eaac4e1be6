"""The folded PConv on a processor: one pass, ``native/pconv.cpp``.

Operator by operator a quarter of the channels is copied and convolved, which takes oneDNN half as long as all of them
with 16 channels at 32×32, and concatenated with the others, and a batch norm follows. ResNet-20 with it infers 1.74
instead of 1.14 times as fast as the plain one, 64 images on one core of a Xeon with AVX-512, torch 2.14.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from efficientconv.layers.ending import Ending
from efficientconv.layers.native_form import by_pixels, empty_image, is_inference, keeps_size, native_form
from efficientconv.native import Library

if TYPE_CHECKING:
    from efficientconv.layers.pconv_folded import FoldedPConv

WIDEST = 64  # channels that are convolved; more were not measured


def native_library(form: FoldedPConv, x: Tensor) -> Library | None:
    """Return what computes ``form(x)`` as one operator; None where it runs as it is written."""
    fits = (
        form.in_channels % 8 == 0
        and form.conv.in_channels <= WIDEST
        and x.shape[1] == form.in_channels
        and keeps_size(form.conv)
        and is_inference(form, x)
    )
    return native_form("pconv", x, form.conv) if fits else None


def inference(native: Library, form: FoldedPConv, x: Tensor, ending: Ending) -> Tensor:
    """Return ``form(x)``, without a gradient, and with its ending where that is native.

    Args:
        native: of ``native_library``.
        form: in eval mode.
        x: (N, i, H, W), channels last.
        ending: what follows.
    """
    conv, y = form.conv, empty_image(x, form.in_channels)
    bias = x.new_zeros(conv.out_channels) if conv.bias is None else conv.bias
    scale = x.new_ones(form.in_channels) if form.scale is None else form.scale
    shift = x.new_zeros(form.in_channels) if form.shift is None else form.shift
    sizes = (len(x), *x.shape[2:], *conv.kernel_size, *conv.dilation, form.in_channels, conv.in_channels)
    parameters = (conv.weight.contiguous(), bias, scale, shift)
    native.call("inference", sizes, parameters, by_pixels(x), *ending.arguments(y), by_pixels(y))
    return y
