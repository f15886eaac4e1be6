"""SPConv on a processor: the layer as one operator, ``native/spconv.cpp``, in training and inference.

What the 1×1 gives is never written: its statistics follow from the covariance of its input, its gradients from sums
that the fusion needs anyway. Beside ``nn.Conv2d``, and in brackets operator by operator, on one core of a Xeon with
AVX-512, 64 images: forward and backward 0.75 (0.30), 0.99 (0.48) and 1.00 (0.68) of its speed with 16 channels at
32×32, 32 at 16×16 and 64 at 8×8, 0.6 (0.35) and 0.6 (0.47) where it strides; folded 1.1 (0.5), 1.45 (0.7) and 1.4
(0.9). ResNet-20 with it trains at 0.83 (0.53) of the plain one's speed, and infers, folded, at 1.12 (0.68).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from torch import Tensor, nn

from efficientconv.layers.affine import has_everything
from efficientconv.layers.batch_norm import scale_and_shift
from efficientconv.layers.ending import NOTHING
from efficientconv.layers.native_form import by_pixels, empty_image, is_inference, native_form
from efficientconv.layers.native_step import NativeStep
from efficientconv.layers.windows import Windows, kernel_of_windows, mean_of_windows
from efficientconv.native import Library

if TYPE_CHECKING:
    from efficientconv.layers.spconv import SPConv2d

WIDEST = 128
"""Most channels that the C++ is the faster way for: its kernels stay in the second cache from one row to the next."""


def native_library(layer: SPConv2d, x: Tensor) -> Library | None:
    """Return what computes ``layer(x)`` as one operator; None where the layer runs as it is drawn."""
    norms = (layer.bn1, layer.bn2)
    fits = (
        layer._is_odd
        and layer.padding_mode == "zeros"
        and max(layer.in_channels * math.prod(layer.stride), layer.out_channels) <= WIDEST
        and x.shape[2] % layer.stride[0] == x.shape[3] % layer.stride[1] == 0
        and layer.split[0] % 8 == layer.split[1] % 8 == layer.out_channels % 8 == 0
        and x.shape[1] == layer.in_channels
        and all(has_everything(norm) and norm.training == layer.training for norm in norms)
        and (layer.training or is_inference(layer, x))
    )
    return native_form("spconv", x, layer.gwc, layer.pwc, layer.conv1x1, *norms) if fits else None


def training_step(native: Library, layer: SPConv2d, x: Tensor) -> Tensor:
    """Return ``layer(x)``, and bring its running statistics up to date; its gradient has no gradient.

    Args:
        native: of ``native_library``.
        layer: in training mode.
        x: (N, i, H, W), channels last.
    """
    norms = [cast(nn.BatchNorm2d, norm) for norm in (layer.bn1, layer.bn2)]
    x, *convolutions = at_stride_1(native, layer.gwc, layer.pwc, x)
    parameters = _parameters(layer, convolutions, [value for norm in norms for value in (norm.weight, norm.bias)])
    y, kept = empty_image(x, layer.out_channels), _Kept.of(x, layer.split[1], layer.out_channels)
    step = NativeStep(native, _sizes(layer, x, convolutions), y, kept)
    return step.run(x, parameters, [(norm, y.numel() // y.shape[1]) for norm in norms])


def inference(native: Library, layer: SPConv2d, x: Tensor) -> Tensor:
    """Return ``layer(x)`` in eval mode, without a gradient.

    Args:
        native: of ``native_library``.
        layer: in eval mode.
        x: (N, i, H, W), channels last.
    """
    x, *convolutions = at_stride_1(native, layer.gwc, layer.pwc, x)
    affine = [value for norm in (layer.bn1, layer.bn2) for value in scale_and_shift(norm)]
    y = empty_image(x, layer.out_channels)
    parameters = _parameters(layer, convolutions, affine)
    images = (x.new_empty(0), by_pixels(x), *NOTHING.arguments(y), by_pixels(y))
    native.call("inference", _sizes(layer, x, convolutions), parameters, *images)
    return y


def at_stride_1(native: Library, grouped: nn.Conv2d, pointwise: nn.Conv2d, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the image and the weights of both convolutions; where the grouped one strides, of windows."""
    stride, groups = cast("tuple[int, int]", grouped.stride), grouped.groups
    if stride == (1, 1):
        return x, grouped.weight, pointwise.weight
    x = Windows(stride, grouped.in_channels, groups).gather(native, x)
    kernel = kernel_of_windows(grouped.weight, stride, cast("tuple[int, int]", grouped.dilation))
    return x, kernel, mean_of_windows(pointwise.weight, stride, groups)


def _parameters(layer: SPConv2d, convolutions: Sequence[Tensor], norms: Sequence[Tensor]) -> list[Tensor]:
    """Return the parameters in the order of the C++, with scale and shift of the two norms."""
    grouped, pointwise, second = (weight.contiguous() for weight in (*convolutions, layer.conv1x1.weight))
    return [grouped, pointwise, *norms[:2], second, cast(Tensor, layer.conv1x1.bias), *norms[2:]]


def _sizes(layer: SPConv2d, x: Tensor, convolutions: Sequence[Tensor]) -> tuple[int | float, ...]:
    grouped, pointwise = convolutions
    kernel = (*grouped.shape[2:], *(layer.dilation if layer.stride == (1, 1) else (1, 1)))
    channels = (x.shape[1], pointwise.shape[1], layer.out_channels, layer.gwc.groups)
    return len(x), *x.shape[2:], *kernel, *channels, layer.bn1.eps, layer.bn2.eps


class _Kept(NamedTuple):
    """What the backward pass needs of the forward pass besides x; the rest are its other, last r channels."""

    y1: Tensor  # (N, H, W, o)
    means1: Tensor  # (N, o): of y1
    rest_means: Tensor  # (N, r)
    rest_covariance: Tensor  # (r, r)
    rest_mean: Tensor  # (r,)
    mean1: Tensor  # (o,): of y1
    variance1: Tensor
    mean2: Tensor  # (o,): of y2
    variance2: Tensor

    @classmethod
    def of(cls, x: Tensor, rest: int, out: int) -> _Kept:
        means1, rest_means, covariance = (x.new_empty(size) for size in ((len(x), out), (len(x), rest), (rest, rest)))
        y1, others = by_pixels(empty_image(x, out)), map(x.new_empty, (rest, out, out, out, out))
        return cls(y1, means1, rest_means, covariance, *others)
