"""BDRConv on a processor: the layer as one operator, ``native/bdrconv.cpp``, in training and inference.

Operator by operator the layer is fifty calls, which write two dozen arrays of the activations' size. On one core of a
Xeon with AVX-512, torch 2.14, 64 images, the operator is 3.3, 3.4 and 2.2 times as fast, forward and backward, with 16
channels at 32×32, 32 at 16×16 and 64 at 8×8. ResNet-20 with it trains 1.9 times as fast, and folded infers 1.9 times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor, nn

from efficientconv.layers.affine import has_everything
from efficientconv.layers.batch_norm import ScaleShift, scale_and_shift
from efficientconv.layers.cpu_forms import has_hooks
from efficientconv.layers.ending import NOTHING, Ending
from efficientconv.layers.native_form import by_pixels, empty_image, is_inference, native_form
from efficientconv.layers.native_step import NativeStep
from efficientconv.native import Library

if TYPE_CHECKING:
    from efficientconv.layers.bdrconv import BDRConv2d
    from efficientconv.layers.bdrconv_folded import FoldedBDRConv

WIDEST, WIDEST_TRAINING = 256, 128
"""Channels up to which C++ is faster: in and out, and in training in.

With 8 images it is 1.8 times as fast in training with 64 channels at 56×56, 1.2 and 1.04 with 128 at 28×28 and 14×14,
1.1 from 128 to 256, 0.6 with 256 at 14×14; folded 2.8, 1.7 and 1.4, 1.6, 1.1, and 0.5 with 512 at 7×7.
"""


def native_library(layer: BDRConv2d, x: Tensor) -> Library | None:
    """Return what computes ``layer(x)`` as one operator; None where the layer runs as it is drawn."""
    if has_hooks(layer.pool) or not _fits(layer, x):
        return None
    if not (_is_training(layer) if layer.training else is_inference(layer, x)):
        return None
    norms = [norm for norm in (layer.bn1, layer.bn2) if isinstance(norm, nn.BatchNorm2d)]
    parts = (layer.main_conv, layer.expand, layer.diversity_conv, *norms, layer.se.fc1, layer.se.fc2)
    return native_form("bdrconv", x, *parts)


def native_folded_library(folded: FoldedBDRConv, x: Tensor) -> Library | None:
    """Return what computes ``folded(x)`` as one operator; None where its parts must be called."""
    if folded.origin is None or has_hooks(folded.pool) or not (_fits(folded.origin[0], x) and is_inference(folded, x)):
        return None
    parts = filter(None, (folded.conv, folded.main, folded.expand, folded.se.fc1, folded.se.fc2))
    return native_form("bdrconv", x, *parts)


def _fits(layer: BDRConv2d, x: Tensor) -> bool:
    """Tell whether the C++ can, and is the faster way."""
    main, base = layer.split[0], layer.main_conv.out_channels
    return (
        layer.main_conv.kernel_size == (1, 1)
        and layer.padding_mode == "zeros"
        and main % 8 == layer.split[1] % 8 == base % 8 == 0
        and max(layer.in_channels, layer.out_channels) <= WIDEST
        and (layer.in_channels <= WIDEST_TRAINING or not layer.training)
        and x.shape[1] == layer.in_channels
        and x.shape[2] % layer.stride[0] == x.shape[3] % layer.stride[1] == 0
    )


def _is_training(layer: BDRConv2d) -> bool:
    return all(norm.training and has_everything(norm) for norm in (layer.bn1, layer.bn2))


def training_step(native: Library, layer: BDRConv2d, x: Tensor) -> Tensor:
    """Return ``layer(x)``, and bring its running statistics up to date; its gradient has no gradient.

    Args:
        native: of ``native_library``.
        layer: in training mode.
        x: (N, i, H, W), channels last.
    """
    norms = [cast(nn.BatchNorm2d, norm) for norm in (layer.bn1, layer.bn2)]
    parameters = [p for norm in norms for p in (norm.weight, norm.bias)]
    y = _out_image(layer, x)
    step = NativeStep(native, _sizes(layer, x), y, _Kept.of(layer, x))
    return step.run(x, _parameters(layer, *parameters), [(norm, y.numel() // y.shape[1]) for norm in norms])


class Operands(NamedTuple):
    """A layer in eval mode, as the C++ takes it: its parameters with the norms' scales and shifts, and the output's."""

    parameters: list[Tensor]
    scale: Tensor  # (o,)
    shift: Tensor  # (o,)

    @classmethod
    @torch.no_grad()
    def of(cls, layer: BDRConv2d) -> Operands:
        """Take a layer with its batch norms, or one into whose convolutions they were folded."""
        one = torch.ones_like(layer.se.fc2.bias)
        if isinstance(layer.bn1, ScaleShift):
            biases = [cast(Tensor, conv.bias) for conv in (layer.main_conv, layer.diversity_conv)]
            norms = (*layer.bn1.scale_and_shift(), one, torch.cat(biases))
        else:
            norms = (*scale_and_shift(layer.bn1), *scale_and_shift(layer.bn2))
        return cls(_parameters(layer, *norms), one, torch.zeros_like(one))

    def rescaled(self, scale: Tensor, shift: Tensor | None) -> Operands:
        """Return those of ``scale·y + shift``, both (o,)."""
        moved = self.shift * scale
        return self._replace(scale=self.scale * scale, shift=moved if shift is None else moved + shift)


def inference(native: Library, layer: BDRConv2d, operands: Operands, x: Tensor, ending: Ending = NOTHING) -> Tensor:
    """Return ``scale·layer(x) + shift`` in eval mode, without a gradient, and with its ending where that is native.

    Args:
        native: of ``native_library``.
        layer: in eval mode.
        operands: of the layer.
        x: (N, i, H, W), channels last.
        ending: what follows.
    """
    pooled, y = _pooled_image(layer, x), _out_image(layer, x)
    images = (by_pixels(x), *ending.arguments(y), by_pixels(pooled), by_pixels(y))
    native.call("inference", _sizes(layer, x), *operands, *images)
    return y


def _parameters(layer: BDRConv2d, *norms: Tensor) -> list[Tensor]:
    """Return the parameters in the order of the C++, with scale and shift of the two norms."""
    convs = (conv.weight.contiguous() for conv in (layer.main_conv, layer.expand, layer.diversity_conv))
    linear = (layer.se.fc1.weight, layer.se.fc1.bias, layer.se.fc2.weight, layer.se.fc2.bias)
    return [*convs, *norms, *linear]


def _sizes(layer: BDRConv2d, x: Tensor) -> tuple[int | float, ...]:
    groups, planes = layer.split[0], layer.diversity_conv.in_channels // layer.split[0]
    images = (len(x), x.shape[2] // layer.stride[0], x.shape[3] // layer.stride[1])
    geometry = (*images, *layer.stride, *layer.kernel_size, *layer.dilation)
    of_group = layer.diversity_conv.out_channels // groups
    channels = (layer.in_channels, groups, layer.out_channels, planes, of_group, layer.se.fc1.out_features)
    epsilons = (getattr(norm, "eps", 0.0) for norm in (layer.bn1, layer.bn2))
    return *geometry, *channels, *epsilons


def _pooled_image(layer: BDRConv2d, x: Tensor) -> Tensor:
    """Return room for x pooled, (N, i, H', W'); at stride 1 x itself."""
    return x if layer.stride == (1, 1) else empty_image(x, layer.in_channels, layer.stride)


def _out_image(layer: BDRConv2d, x: Tensor) -> Tensor:
    return empty_image(x, layer.out_channels, layer.stride)


class _Kept(NamedTuple):
    """What the backward pass needs of the forward pass besides x."""

    y: Tensor  # (N, H, W, o): what the second norm takes
    means: Tensor  # (N, o): of y
    pooled: Tensor  # (N, H, W, i): x, where it is not strided
    mean: Tensor  # (i,): of that
    covariance: Tensor  # (i, i): of that
    mean1: Tensor  # (m + o,): of what the first norm takes
    variance1: Tensor
    mean2: Tensor  # (o,): of y
    variance2: Tensor

    @classmethod
    def of(cls, layer: BDRConv2d, x: Tensor) -> _Kept:
        inputs, features, out = layer.in_channels, layer.diversity_conv.in_channels, layer.out_channels
        y, pooled = by_pixels(_out_image(layer, x)), by_pixels(_pooled_image(layer, x))
        means, mean, covariance = x.new_empty(len(x), out), x.new_empty(inputs), x.new_empty(inputs, inputs)
        return cls(y, means, pooled, mean, covariance, *map(x.new_empty, (features, features, out, out)))
