"""BDRConv on a processor: the layer as one operator, ``native/bdrconv.cpp``, in training and inference.

Operator by operator the layer is fifty calls, which write two dozen arrays of the activations' size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from efficientconv.layers.affine import has_everything, update_running_statistics
from efficientconv.layers.batch_norm import scale_and_shift
from efficientconv.layers.native_form import by_pixels, empty_image, native_form
from efficientconv.native import Library

if TYPE_CHECKING:
    from efficientconv.layers.bdrconv import BDRConv2d


def native_library(layer: BDRConv2d, x: Tensor) -> Library | None:
    """Return what computes ``layer(x)`` as one operator; None where the layer runs as it is drawn."""
    main, base, norms = layer.split[0], layer.main_conv.out_channels, (layer.bn1, layer.bn2)
    fits = (
        layer.stride == layer.main_conv.kernel_size == (1, 1)
        and layer.padding_mode == "zeros"
        and layer.diversity_conv.out_channels == main
        and main % 8 == layer.split[1] % 8 == base % 8 == 0
        and x.shape[1] == layer.in_channels
        and all(has_everything(norm) and norm.training == layer.training for norm in norms)
    )
    parts = (layer.main_conv, layer.expand, layer.diversity_conv, *norms, layer.se.fc1, layer.se.fc2)
    return native_form("bdrconv", x, *parts) if fits else None


def training_step(native: Library, layer: BDRConv2d, x: Tensor) -> Tensor:
    """Return ``layer(x)``, and bring its running statistics up to date; its gradient has no gradient.

    Args:
        native: of ``native_library``.
        layer: in training mode.
        x: (N, i, H, W), channels last.
    """
    norms = (layer.bn1, layer.bn2)
    parameters = [p for norm in norms for p in (norm.weight, norm.bias)]
    y, *statistics = _TrainingStep.apply(native, _sizes(layer, x), x, *_parameters(layer, *parameters))
    for norm, mean, variance in zip(norms, statistics[::2], statistics[1::2], strict=True):
        update_running_statistics(norm, mean, variance, x.numel() // x.shape[1])
    return y


def inference(native: Library, layer: BDRConv2d, x: Tensor) -> Tensor:
    """Return ``layer(x)`` in eval mode, without a gradient.

    Args:
        native: of ``native_library``.
        layer: in eval mode.
        x: (N, i, H, W), channels last.
    """
    affine = [value for norm in (layer.bn1, layer.bn2) for value in scale_and_shift(norm)]
    y = empty_image(x, layer.out_channels)
    native.call("inference", _sizes(layer, x), _parameters(layer, *affine), by_pixels(x), by_pixels(y))
    return y


def _parameters(layer: BDRConv2d, *norms: Tensor) -> list[Tensor]:
    """Return the parameters in the order of the C++, with scale and shift of the two norms."""
    convs = (conv.weight.contiguous() for conv in (layer.main_conv, layer.expand, layer.diversity_conv))
    linear = (layer.se.fc1.weight, layer.se.fc1.bias, layer.se.fc2.weight, layer.se.fc2.bias)
    return [*convs, *norms, *linear]


def _sizes(layer: BDRConv2d, x: Tensor) -> tuple[int | float, ...]:
    number, in_channels, height, width = x.shape
    groups, planes = layer.diversity_conv.weight.shape[:2]
    images, kernel = (number, height, width), (*layer.kernel_size, *layer.dilation)
    channels = (in_channels, groups, layer.out_channels, planes, layer.se.fc1.out_features)
    return *images, *kernel, *channels, layer.bn1.eps, layer.bn2.eps


class _Saved(NamedTuple):
    """What the backward pass needs of the forward pass besides x."""

    y: Tensor  # (N, H, W, o): what the second norm takes
    means: Tensor  # (N, o): of y
    mean: Tensor  # (i,): of x
    covariance: Tensor  # (i, i): of x
    mean1: Tensor  # (m + o,): of what the first norm takes
    variance1: Tensor
    mean2: Tensor  # (o,): of y
    variance2: Tensor

    @classmethod
    def of(cls, x: Tensor, features: int, out: int) -> _Saved:
        sizes = [(len(x), out), x.shape[1], (x.shape[1], x.shape[1]), features, features, out, out]
        return cls(by_pixels(empty_image(x, out)), *map(x.new_empty, sizes))


class _TrainingStep(Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, native: Library, sizes: tuple[int | float, ...], x: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        diversity, bias2 = parameters[2], parameters[6]
        saved = _Saved.of(x, diversity.shape[0] * diversity.shape[1], len(bias2))
        y = empty_image(x, len(bias2))
        native.call("training", sizes, parameters, by_pixels(x), saved, by_pixels(y))
        ctx.native, ctx.sizes = native, sizes
        ctx.save_for_backward(x, *saved, *parameters)
        statistics = saved[4:]
        ctx.mark_non_differentiable(*statistics)
        return y, *statistics

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, *others = ctx.saved_tensors
        saved, parameters = _Saved(*others[:8]), others[8:]
        by_x, by_parameters = torch.empty_like(x), [torch.zeros_like(parameter) for parameter in parameters]
        grad = grad.contiguous(memory_format=torch.channels_last)
        images = (by_pixels(x), saved, by_pixels(grad), by_pixels(by_x))
        ctx.native.call("backward", ctx.sizes, parameters, *images, by_parameters)
        return None, None, by_x, *by_parameters
