"""SlimConv on a processor: the layer as one operator, ``native/slimconv.cpp``, in training and inference.

Two foldings, two paths and their norms are thirty operators, each a pass over activations that are narrower than the
layer. Here an image goes through the layer in three passes and back in three, since three times a batch norm has to see
all images; what is folded, the second path's ReLU and its gradient stay in the processor's cache.

On one core of a Xeon with AVX-512, torch 2.14, NHWC, forward and backward, the layer is 2.1 and 2.0 times as fast as
operator by operator with 64 images of 32 channels at 16×16 and 64 at 8×8, and 1.4 and 1.0 times with 8 of 128 at 28×28
and 256 at 14×14; beside ``nn.Conv2d`` its speed is 1.1, 1.4, 1.9 and 1.6, with the width restored 0.9, 1.2, 1.5 and
1.4. ResNet-20 with it, from 32 channels on and with the width restored, trains at 1.0 times the plain network's speed,
operator by operator at 0.72; folded it infers at 0.97, operator by operator at 0.76.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn

from efficientconv.layers.affine import has_everything
from efficientconv.layers.batch_norm import scale_and_shift
from efficientconv.layers.cpu_forms import has_hooks
from efficientconv.layers.native_form import by_pixels, empty_image, is_inference, native_form
from efficientconv.layers.native_step import NativeStep
from efficientconv.native import Library

if TYPE_CHECKING:
    from efficientconv.layers.slimconv import SlimConv2d

Module = TypeVar("Module", bound=nn.Module)
Sizes = tuple[int | float, ...]
WIDEST = 256  # channels; with 8 images of 512 at 7×7 it is 0.35 times as fast as operator by operator
DRAWN = [nn.Conv2d, nn.ReLU, nn.Conv2d, nn.Sigmoid, nn.Conv2d, nn.Conv2d, nn.ReLU, nn.Conv2d]  # beside norms
RESTORING = [nn.ReLU, nn.Conv2d]


def native_library(layer: SlimConv2d, x: Tensor) -> Library | None:
    """Return what computes ``layer(x)`` as one operator; None where the layer runs as it is drawn."""
    paths, norms = _paths(layer), _of_type(layer, nn.BatchNorm2d)
    modules = [module for path in paths for module in path.children()]
    fits = (
        [type(module) for module in modules if type(module) is not nn.BatchNorm2d] in (DRAWN, [*DRAWN, *RESTORING])
        and all(conv.groups == 1 for conv in _of_type(layer, nn.Conv2d))
        and layer.stride == (1, 1)
        and layer.padding_mode == "zeros"
        and layer._is_odd
        and layer.in_channels <= WIDEST
        and layer.in_channels % (16 * layer.num_splits) == layer.out_channels % 8 == 0
        and x.shape[1] == layer.in_channels
        and all(has_everything(norm) and norm.training == layer.training for norm in norms)
        and (len(x) > 1 and len(norms) == 4 if layer.training else is_inference(layer, x))
    )
    return native_form("slimconv", x, *modules) if fits and not any(map(has_hooks, paths)) else None


def _paths(layer: SlimConv2d) -> tuple[nn.Module, ...]:
    return layer.gate, layer.path1, layer.path2, layer.restore


def _of_type(layer: SlimConv2d, kind: type[Module]) -> list[Module]:
    """Return the gate's convolutions or norms, the first path's, the second's, and what restores the width."""
    return [module for path in _paths(layer) for module in path.children() if isinstance(module, kind)]


def training_step(native: Library, layer: SlimConv2d, x: Tensor) -> Tensor:
    """Return ``layer(x)``, and bring its running statistics up to date; its gradient has no gradient.

    Args:
        native: of ``native_library``.
        layer: in training mode.
        x: (N, i, H, W), channels last, at least two images.
    """
    norms = _of_type(layer, nn.BatchNorm2d)
    parameters = _parameters(layer, [(norm.weight, norm.bias) for norm in norms])
    hidden, first, second = (norm.num_features for norm in norms[:3])
    count = x.numel() // x.shape[1]

    restores_width = len(parameters[-1]) > 0

    def room(x: Tensor, by_y: Tensor) -> tuple[Tensor, Tensor]:
        return empty_image(x, first + second) if restores_width else by_y, empty_image(x, second)

    kept = _Kept.of(x, hidden, first, second)
    step = NativeStep(native, _sizes(layer, x, norms), empty_image(x, layer.out_channels), kept, room)
    return step.run(x, parameters, list(zip(norms, (len(x), count, count, count), strict=True)))


def inference(native: Library, layer: SlimConv2d, x: Tensor) -> Tensor:
    """Return ``layer(x)`` in eval mode, without a gradient.

    Args:
        native: of ``native_library``.
        layer: in eval mode, with its batch norms or with these folded.
        x: (N, i, H, W), channels last.
    """
    norms, y = _of_type(layer, nn.BatchNorm2d), empty_image(x, layer.out_channels)
    affine = [scale_and_shift(norm) for norm in norms] or [_bias_as_shift(conv) for conv in _normed(layer)]
    native.call("inference", _sizes(layer, x, norms), _parameters(layer, affine), by_pixels(x), by_pixels(y))
    return y


def _normed(layer: SlimConv2d) -> tuple[nn.Conv2d, ...]:
    """Return the convolutions in front of the four norms."""
    squeeze, _, conv1, narrow, conv2, *_ = _of_type(layer, nn.Conv2d)
    return squeeze, conv1, narrow, conv2


def _bias_as_shift(conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    bias = cast(Tensor, conv.bias)
    return torch.ones_like(bias), bias


def _parameters(layer: SlimConv2d, affine: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Return the parameters in the order of the C++, with weight and bias of each norm, or scale and shift."""
    squeeze, excite, conv1, narrow, conv2, *restore = (conv.weight.contiguous() for conv in _of_type(layer, nn.Conv2d))
    gate, first, between, second = affine
    bias = cast(Tensor, _of_type(layer, nn.Conv2d)[1].bias)
    return [squeeze, *gate, excite, bias, conv1, *first, narrow, *between, conv2, *second, *(restore or [squeeze[:0]])]


def _sizes(layer: SlimConv2d, x: Tensor, norms: list[nn.BatchNorm2d]) -> Sizes:
    """Return the numbers of the C++."""
    squeeze, restores = _of_type(layer, nn.Conv2d)[0], int(len(_of_type(layer, nn.Conv2d)) == 6)
    geometry = (len(x), *x.shape[2:], *layer.kernel_size, *layer.dilation)
    widths = (layer.in_channels, layer.num_splits, squeeze.out_channels, layer.out_channels, restores)
    return *geometry, *widths, *([norm.eps for norm in norms] or [0.0] * 4)


class _Kept(NamedTuple):
    """What the backward pass needs of the forward pass besides x."""

    means: Tensor  # (N, i): of x
    hidden: Tensor  # (N, i/32): what the gate's norm takes
    gates: Tensor  # (N, i)
    y1: Tensor  # (N, H, W, i/n): what the first path's norm takes
    narrow: Tensor  # (N, H, W, i/2n): what the second path's norms take
    y2: Tensor
    mean0: Tensor  # of the norms' inputs
    variance0: Tensor
    mean1: Tensor
    variance1: Tensor
    mean2: Tensor
    variance2: Tensor
    mean3: Tensor
    variance3: Tensor

    @classmethod
    def of(cls, x: Tensor, hidden: int, first: int, second: int) -> _Kept:
        small = (x.new_empty(len(x), width) for width in (x.shape[1], hidden, x.shape[1]))
        images = (by_pixels(empty_image(x, width)) for width in (first, second, second))
        return cls(
            *small, *images, *(x.new_empty(width) for width in (hidden, first, second, second) for _ in range(2))
        )
