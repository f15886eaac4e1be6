"""GhostConv on a processor: both of its convolutions as one operator, ``native/ghost.cpp``, in training and inference.

Its narrow primary convolution is what a Ghost module costs: 16 channels to 8 at 32×32 take oneDNN 6.8 of the 7.9 ms of
16 to 16, forward and backward. Here a kernel three columns wide takes 4 products where there were 6, see
``native/winograd.h``, and eight channels fill a vector of 16. Beside the plain network, on one core of a Xeon with
AVX-512, torch 2.14, batch 64, ResNet-20 trains 1.04 instead of 0.94 times as fast and infers, folded, 1.38 instead
of 0.77 times. Of the 2.0 ms that 16 channels take in inference, about 1.0 is reading, writing and arranging the
two images.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from efficientconv.layers.ending import NOTHING, Ending
from efficientconv.layers.native_form import by_pixels, empty_image, keeps_size, native_form, weight_and_bias
from efficientconv.native import Library


class GhostPair(Protocol):
    """A layer whose output is that of ``primary``, (a), beside what ``cheap`` makes of it, without norms between."""

    primary: nn.Conv2d
    cheap: nn.Conv2d
    out_channels: int


def native_library(layer: GhostPair, x: Tensor) -> Library | None:
    """Return what computes ``layer(x)`` as one operator; None where the layer runs as it is drawn."""
    primary, cheap = layer.primary, layer.cheap
    half = primary.out_channels
    needs_gradient = torch.is_grad_enabled() and x.requires_grad
    fits = (
        half % 8 == 0
        and layer.out_channels == 2 * half == half + cheap.out_channels
        and (x.shape[1] % 8 == 0 or not needs_gradient)
        and x.shape[1] == primary.in_channels
        and keeps_size(primary)
        and x.shape[2] % _pair(primary.stride)[0] == x.shape[3] % _pair(primary.stride)[1] == 0
        and max(x.shape[1], half) <= _widest(primary, x, needs_gradient)
    )
    return native_form("ghost", x, primary, cheap) if fits else None


def _widest(conv: nn.Conv2d, x: Tensor, needs_gradient: bool) -> int:
    """Return with how many channels the C++ is still faster than two calls of oneDNN.

    Where the C++ can take Winograd's form it does, with two thirds of the multiply-adds. Forward and backward, and in
    inference, it is this many times as fast as the two calls, on one core of a Xeon with AVX-512, torch 2.14: with 16
    channels at 32×32 1.43 and 1.50, 32 at 16×16 1.18 and 1.14, 64 at 16×16 1.11 and 1.33, 64 at 56×56 1.02 and 1.11,
    96 at 16×16 1.09 and 1.24, 128 at 28×28 0.99 and 1.19, 128 at 8×8 0.87 and 1.11, 256 at 14×14 0.73 and 0.92. Tap by
    tap, at stride 2: 16 to 32 channels from 32×32 1.28 and 1.16, 32 to 64 from 16×16 1.13 and 0.95, 64 to 128 from
    16×16 0.88 and 0.85.
    """
    is_by_winograd = conv.kernel_size[1] == 3 and _pair(conv.stride) == (1, 1) and conv.dilation[1] == 1
    if not is_by_winograd or x.shape[1] % 8 or x.shape[3] % 2:
        return 32
    return 96 if needs_gradient else 128


def _pair(numbers: object) -> tuple[int, int]:
    return cast("tuple[int, int]", numbers)


def training_step(native: Library, layer: GhostPair, x: Tensor) -> Tensor:
    """Return ``layer(x)``; its gradient has no gradient.

    Args:
        native: of ``native_library``.
        layer: in either mode.
        x: (N, i, H, W), channels last.
    """
    return _TrainingStep.apply(native, layer, x, *_parameters(layer))


def inference(
    native: Library,
    layer: GhostPair,
    x: Tensor,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    ending: Ending = NOTHING,
) -> Tensor:
    """Return ``layer(x)`` without a gradient, its first a channels scaled and shifted, with a native ending.

    Args:
        native: of ``native_library``.
        layer: in either mode.
        x: (N, i, H, W), channels last.
        scale: (a,); None for one.
        shift: (a,); None for zero.
        ending: what follows.
    """
    return _forward(native, layer, x, _parameters(layer), scale, shift, None, ending)


def _parameters(layer: GhostPair) -> list[Tensor]:
    """Return the parameters in the order of the C++."""
    return [*weight_and_bias(layer.primary), *weight_and_bias(layer.cheap)]


def _forward(
    native: Library,
    layer: GhostPair,
    x: Tensor,
    parameters: list[Tensor],
    scale: Tensor | None,
    shift: Tensor | None,
    kept: Tensor | None,
    ending: Ending = NOTHING,
) -> Tensor:
    """Return the output; ``kept``, (N, H', W', a), takes the primary convolution's."""
    y, half = empty_image(x, layer.out_channels, _pair(layer.primary.stride)), layer.primary.out_channels
    scale = x.new_ones(half) if scale is None else scale
    shift = x.new_zeros(half) if shift is None else shift
    kept = x.new_empty(0) if kept is None else kept
    images = (by_pixels(x), *ending.arguments(y), kept, by_pixels(y))
    native.call("forward", _sizes(layer, x), parameters, scale, shift, *images)
    return y


def _sizes(layer: GhostPair, x: Tensor) -> tuple[int, ...]:
    primary = layer.primary
    images = (len(x), x.shape[2] // primary.stride[0], x.shape[3] // primary.stride[1])
    geometry = (*images, *primary.stride, *primary.kernel_size, *primary.dilation, layer.cheap.kernel_size[0])
    return *geometry, primary.in_channels, primary.out_channels


class _TrainingStep(Function):
    @staticmethod
    def forward(ctx: Any, native: Library, layer: GhostPair, x: Tensor, *parameters: Tensor) -> Tensor:  # type: ignore[override]
        ctx.native, ctx.sizes = native, _sizes(layer, x)
        kept = by_pixels(empty_image(x, layer.primary.out_channels, _pair(layer.primary.stride)))
        y = _forward(native, layer, x, list(parameters), None, None, kept)
        ctx.save_for_backward(x, kept, *parameters)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, kept, *parameters = ctx.saved_tensors
        by_x = torch.empty_like(x) if ctx.needs_input_grad[2] else None
        by_parameters = [torch.zeros_like(parameter) for parameter in parameters]
        grad = by_pixels(grad.contiguous(memory_format=torch.channels_last))
        by_pixels_of_x = x.new_empty(0) if by_x is None else by_pixels(by_x)
        ctx.native.call("backward", ctx.sizes, parameters, by_pixels(x), kept, grad, by_pixels_of_x, by_parameters)
        return None, None, by_x, *by_parameters
