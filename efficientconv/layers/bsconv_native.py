"""BSConv on a processor: as one operator, ``native/bsconv.cpp``, BSConv-S in training, both of them folded.

The mathematics of training are those of ``bsconv_training``; what the depthwise convolution sees is never written.

On one core of a Xeon with AVX-512, torch 2.14, 64 images, NHWC, BSConv-S's speed beside ``nn.Conv2d``'s, in brackets
operator by operator, is 1.5 (1.0), 2.4 (1.5) and 3.0 (2.2), forward and backward, with 16 channels at 32×32, 32 at
16×16 and 64 at 8×8; folded 2.1 (1.4), 2.7 (1.9) and 3.9 (3.2), BSConv-U 2.4 (1.9), 2.8 (2.2) and 3.5 (3.0). ResNet-20
with BSConv-S trains at 1.25 (1.05) times the plain network's speed and folded infers at 2.0 (1.5), with BSConv-U at 2.3
(1.6) times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from torch import Tensor, nn

from efficientconv.layers.affine import has_everything
from efficientconv.layers.ending import Ending
from efficientconv.layers.native_form import (
    by_pixels,
    empty_image,
    is_inference,
    keeps_size,
    native_form,
    weight_and_bias,
)
from efficientconv.layers.native_step import NativeStep
from efficientconv.native import Library

if TYPE_CHECKING:
    from efficientconv.layers.bsconv import BSConvS
    from efficientconv.layers.bsconv_folded import FoldedBSConv

WIDEST = 128
"""Channels, in and out, up to which C++ is faster, on one core of a Xeon with AVX-512.

With 8 images of 64 channels at 56×56, 128 at 28×28 and 14×14 it is 1.4, 1.3 and 1.2 times as fast as operators in
training, 1.4, 1.3 and 1.1 times folded (BSConv-U 1.2, 1.1 and 1.0); with 256 at 14×14 0.9, 1.1 (0.9).
"""

NO_EPSILONS = (0.0, 0.0)  # the norms are folded


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
    return native_form("bsconv", x, layer.pw1, layer.pw2, layer.dw, *norms) if fits else None


def native_training_step(native: Library, layer: BSConvS, x: Tensor) -> Tensor:
    """Return ``layer(x)``, and bring its running statistics up to date; its gradient has no gradient.

    Args:
        native: of ``native_library``.
        layer: with batch norms, in training mode.
        x: (N, i, H, W), channels last.
    """
    bn1, bn2 = cast(nn.BatchNorm2d, layer.bn1), cast(nn.BatchNorm2d, layer.bn2)
    first, second = layer.pw1.weight.contiguous(), layer.pw2.weight.contiguous()
    parameters = (first, bn1.weight, bn1.bias, second, bn2.weight, bn2.bias, *weight_and_bias(layer.dw))
    channels = (layer.in_channels, layer.mid_channels, layer.out_channels)
    sizes = (len(x), *x.shape[2:], *_geometry(layer.dw), *channels, bn1.eps, bn2.eps)
    width = -(-layer.mid_channels // 8) * 8  # as the C++ has it: whole vectors
    kept, y = _Kept.of(layer, x, width), _out_image(layer.dw, x)
    step = NativeStep(native, sizes, y, kept, lambda x, by_y: [empty_image(x, width)])
    return step.run(x, parameters, [(norm, x.numel() // x.shape[1]) for norm in (bn1, bn2)])


def _out_image(conv: nn.Conv2d, x: Tensor) -> Tensor:
    return empty_image(x, conv.out_channels, cast("tuple[int, int]", conv.stride))


def native_folded_library(folded: FoldedBSConv, x: Tensor) -> Library | None:
    """Return what computes ``folded(x)``, without a gradient, as one operator; None where it runs by operators."""
    first, last = folded.pointwise[0], folded.dw
    fits = (
        keeps_size(last)
        and first.in_channels % 8 == last.out_channels % 8 == 0
        and max(first.in_channels, last.out_channels) <= WIDEST
        and x.shape[1] == first.in_channels
        and is_inference(folded, x)
    )
    return native_form("bsconv", x, *folded.pointwise, last) if fits else None


def inference(native: Library, folded: FoldedBSConv, x: Tensor, ending: Ending) -> Tensor:
    """Return ``folded(x)``, without a gradient, and with its ending where that is native.

    Args:
        native: of ``native_folded_library``.
        folded: in eval mode.
        x: (N, i, H, W), channels last.
        ending: what follows.
    """
    *first, second = folded.pointwise
    y, nothing = _out_image(folded.dw, x), x.new_empty(0)
    parameters = list(weight_and_bias(first[0])) if first else [nothing, nothing]  # BSConv-U has one 1×1
    parameters += [*weight_and_bias(second), *weight_and_bias(folded.dw)]
    channels = (folded.pointwise[0].in_channels, second.in_channels, second.out_channels)
    sizes = (len(x), *x.shape[2:], *_geometry(folded.dw), *channels, *NO_EPSILONS)
    native.call("inference", sizes, parameters, by_pixels(x), *ending.arguments(y), by_pixels(y))
    return y


def _geometry(conv: nn.Conv2d) -> tuple[int, ...]:
    return cast("tuple[int, ...]", (*conv.stride, *conv.kernel_size, *conv.dilation))


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
