"""BSConv-S in training on a processor: the layer as one operator, ``native/bsconv_s.cpp``.

The mathematics are those of ``bsconv_training``, and what the depthwise convolution sees is never written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor, nn

from efficientconv.layers.affine import has_everything
from efficientconv.layers.native_form import by_pixels, empty_image, keeps_size, native_form
from efficientconv.layers.native_step import NativeStep
from efficientconv.native import Library

if TYPE_CHECKING:
    from efficientconv.layers.bsconv import BSConvS

WIDEST = 64
"""Most channels in and out; wider ones were not measured."""


def native_library(layer: BSConvS, x: Tensor) -> Library | None:
    """Return what computes a training step of ``layer`` as one operator; None where it is computed in another form."""
    norms = (layer.bn1, layer.bn2)
    fits = (
        all(has_everything(norm) and norm.training for norm in norms)
        and keeps_size(layer.dw)
        and layer.in_channels % 8 == layer.out_channels % 8 == 0
        and max(layer.in_channels, layer.out_channels) <= WIDEST
        and x.shape[1] == layer.in_channels
    )
    return native_form("bsconv_s", x, layer.pw1, layer.pw2, layer.dw, *norms) if fits else None


def native_training_step(native: Library, layer: BSConvS, x: Tensor) -> Tensor:
    """Return ``layer(x)``, and bring its running statistics up to date; its gradient has no gradient.

    Args:
        native: of ``native_library``.
        layer: with batch norms, in training mode.
        x: (N, i, H, W), channels last.
    """
    bn1, bn2 = cast(nn.BatchNorm2d, layer.bn1), cast(nn.BatchNorm2d, layer.bn2)
    first, second, depthwise = (conv.weight.contiguous() for conv in (layer.pw1, layer.pw2, layer.dw))
    bias = layer.dw.weight.new_zeros(layer.out_channels) if layer.dw.bias is None else layer.dw.bias
    parameters = (first, bn1.weight, bn1.bias, second, bn2.weight, bn2.bias, depthwise, bias)
    geometry = (*layer.stride, *layer.kernel_size, *layer.dilation)
    channels = (layer.in_channels, layer.mid_channels, layer.out_channels)
    sizes = (len(x), *x.shape[2:], *geometry, *channels, bn1.eps, bn2.eps)
    width = -(-layer.mid_channels // 8) * 8
    step = NativeStep(
        native, sizes, _out_image(layer, x), _Kept.of(layer, x, width), lambda by_y: [empty_image(x, width)]
    )
    return step.run(x, parameters, [(norm, x.numel() // x.shape[1]) for norm in (bn1, bn2)])


def _out_image(layer: BSConvS, x: Tensor) -> Tensor:
    """Return room for the output, (N, o, ⌈H/s⌉, ⌈W/s⌉), channels last."""
    size = (-(-pixels // stride) for pixels, stride in zip(x.shape[2:], layer.stride, strict=True))
    return torch.empty((len(x), layer.out_channels, *size), dtype=x.dtype, memory_format=torch.channels_last)


class _Kept(NamedTuple):
    """What the backward pass needs of the forward pass besides x."""

    t: Tensor  # (N, H, W, width): the subspace's m channels, and zeros that fill a vector
    spread: Tensor  # (o, m): scale₁·W₂ times the covariance of t
    mean1: Tensor  # (m,): of what the first norm takes
    variance1: Tensor
    mean2: Tensor  # (o,): of what the second one takes
    variance2: Tensor

    @classmethod
    def of(cls, layer: BSConvS, x: Tensor, width: int) -> _Kept:
        out, mid = layer.out_channels, layer.mid_channels
        return cls(by_pixels(empty_image(x, width)), x.new_empty(out, mid), *map(x.new_empty, (mid, mid, out, out)))
