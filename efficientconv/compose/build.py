"""Building the layer that takes a convolution's place, with its geometry, device, data type and mode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efficientconv.layers import ConvVariant, DepthwiseSeparableConv2d
from efficientconv.profiling import meta_copy

Factory = Callable[..., nn.Module]
Unit = nn.Conv2d | DepthwiseSeparableConv2d
Layer = nn.Conv2d | ConvVariant

_PAD_MODES = {"zeros": "constant"}


class SamePad2d(nn.Module):
    """Pads as TensorFlow's SAME does, so that the convolution behind it outputs ⌈H/stride⌉ rows for any input.

    An odd margin has its extra pixel on the right and at the bottom.

    Args:
        kernel_size: of the convolution behind it, in pixels.
        stride: of that convolution, in pixels.
        dilation: of that convolution, in pixels.
        padding_mode: as ``nn.Conv2d``'s.
    """

    def __init__(
        self,
        kernel_size: tuple[int, ...],
        stride: tuple[int, ...],
        dilation: tuple[int, ...],
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__()
        self.spans = [d * (k - 1) + 1 for k, d in zip(kernel_size, dilation, strict=True)]
        self.stride = stride
        self.mode = _PAD_MODES.get(padding_mode, padding_mode)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H + margin, W + margin)."""
        margins: list[int] = []
        for size, span, stride in zip(x.shape[-2:], self.spans, self.stride, strict=True):
            margin = max((-(-size // stride) - 1) * stride + span - size, 0)
            margins = [margin // 2, margin - margin // 2, *margins]
        return F.pad(x, margins, mode=self.mode)


@dataclass(frozen=True)
class Successor:
    """The replacement of a unit.

    Attributes:
        module: goes into the model in the unit's place.
        layer: the convolution layer in ``module``; ``module`` itself, unless a padding stands in front.
        note: any difference beside the layer, in a few words; empty where there is none.
        is_same: whether ``module`` computes and stores the same as the unit.
    """

    module: nn.Module
    layer: Layer
    note: str
    is_same: bool


def build_successor(factory: Factory, unit: Unit, device: torch.device | str | None = None) -> Successor:
    """Build the replacement of ``unit``, with the same geometry, device, data type and mode, and frozen where it was.

    An ``nn.Conv2d`` of the same shape takes over the weights of ``unit``; any other layer keeps its initialisation.

    Args:
        factory: takes ``nn.Conv2d``'s arguments and returns a ``ConvVariant`` or an ``nn.Conv2d``.
        unit: the convolution or depthwise-separable unit to replace.
        device: of the new layer; by default that of the unit's weight.

    Raises:
        ValueError: the layer refuses this geometry, or has more output channels than ``unit``.
        TypeError: ``factory`` returned neither a ``ConvVariant`` nor an ``nn.Conv2d``.
    """
    weight = next(unit.parameters())
    module, layer, note = _padded_alike(factory, unit, {"device": device or weight.device, "dtype": weight.dtype})
    fits = isinstance(unit, nn.Conv2d) and isinstance(layer, nn.Conv2d) and layer.weight.shape == weight.shape
    if fits and not layer.weight.is_meta:
        layer.load_state_dict(unit.state_dict(), strict=False)
    if adds_to_conv2d(unit):
        note = "; ".join(filter(None, (note, f"what {type(unit).__name__} adds to nn.Conv2d is lost")))
    if not weight.requires_grad:
        layer.requires_grad_(False)
    return Successor(module.train(unit.training), layer, note, is_same=fits and not note)


def begin_near(layer: Layer, unit: Unit) -> float | None:
    """Let the replacement of ``unit`` begin near it, where it can; return ‖K − K̂‖/‖K‖, or None where it begins anew.

    Only a plain convolution has one kernel K: a depthwise-separable unit has a ReLU inside, and a subclass may convolve
    with something else than its weight.
    """
    if not isinstance(unit, nn.Conv2d) or adds_to_conv2d(unit):
        return None
    if not isinstance(layer, ConvVariant) or isinstance(layer, nn.Conv2d):
        return 0.0 if layer.weight.shape == unit.weight.shape else None  # `build_successor` has copied the weights
    device = unit.weight.device
    bias = None if unit.bias is None else unit.bias.detach().cpu()
    error = layer.cpu().approximate(unit.weight.detach().cpu(), bias)
    layer.to(device)
    return error


def adds_to_conv2d(unit: Unit) -> bool:
    """Tell whether the class of ``unit`` does more than convolve and pad, such as standardise its weights.

    timm's ``Conv2dSame`` does not; its name is compared, so that timm need not be imported.
    """
    return isinstance(unit, nn.Conv2d) and type(unit) is not nn.Conv2d and type(unit).__name__ != "Conv2dSame"


def _pads_by_input(unit: Unit) -> bool:
    """Tell whether ``unit`` outputs ⌈H/stride⌉ rows although its ``padding`` gives another size, by trying two sizes.

    Raises:
        ValueError: the output has neither the size that ``padding`` gives nor ⌈H/stride⌉ rows.
    """
    if isinstance(unit.padding, str) or type(unit) is nn.Conv2d or not isinstance(unit, nn.Conv2d):
        return unit.padding == "same"
    spans = [d * (k - 1) + 1 for k, d in zip(unit.kernel_size, unit.dilation, strict=True)]
    sizes = [4 * max(spans), 4 * max(spans) + 1]
    geometry = list(zip(spans, unit.padding, unit.stride, strict=True))
    declared = [tuple((size + 2 * pad - span) // stride + 1 for span, pad, stride in geometry) for size in sizes]
    same = [tuple(-(-size // stride) for stride in unit.stride) for size in sizes]
    actual = [_output_size(unit, size) for size in sizes]
    if actual not in (declared, same):
        text = f"outputs {actual[0]} pixels for an input of {sizes[0], sizes[0]}, not {declared[0]}"
        raise ValueError(f"{type(unit).__name__} {text}")
    return actual != declared


def _output_size(conv: nn.Conv2d, size: int) -> tuple[int, ...]:
    image = torch.empty(1, conv.in_channels, size, size, device="meta", dtype=conv.weight.dtype)
    with torch.no_grad():
        return tuple(meta_copy(conv)(image).shape[2:])


def _padded_alike(factory: Factory, unit: Unit, place: dict[str, Any]) -> tuple[nn.Module, Layer, str]:
    """Build a layer whose output has the size of the unit's, behind a padding where needed, and a note on that."""
    if not _pads_by_input(unit):
        layer = _call(factory, unit, (0, 0) if unit.padding == "valid" else unit.padding, place)
        return layer, layer, ""
    margins = [d * (k - 1) for k, d in zip(unit.kernel_size, unit.dilation, strict=True)]
    half = (margins[0] // 2, margins[1] // 2)
    symmetric = all(margin % 2 == 0 for margin in margins)
    if symmetric and all(stride == 1 or margin == 0 for stride, margin in zip(unit.stride, margins, strict=True)):
        layer = _call(factory, unit, half, place)
        return layer, layer, ""
    try:
        layer = _call(factory, unit, (0, 0), place)
    except ValueError:  # a layer with side branches pads by itself
        if not symmetric:
            raise
        layer = _call(factory, unit, half, place)
        return layer, layer, f"symmetric padding in place of {type(unit).__name__}'s"
    padding = SamePad2d(unit.kernel_size, unit.stride, unit.dilation, unit.padding_mode)
    return nn.Sequential(padding, layer), layer, "same-padding in front"


def _call(factory: Factory, unit: Unit, padding: Any, place: dict[str, Any]) -> Layer:
    layer = factory(
        unit.in_channels,
        unit.out_channels,
        unit.kernel_size,
        stride=unit.stride,
        padding=padding,
        dilation=unit.dilation,
        groups=unit.groups,
        bias=unit.bias is not None,
        padding_mode=unit.padding_mode,
        **place,
    )
    if not isinstance(layer, (nn.Conv2d, ConvVariant)):
        raise TypeError(
            f"layer: must be a factory of ConvVariant or nn.Conv2d; this one returned a {type(layer).__name__}"
        )
    if layer.out_channels > unit.out_channels:
        raise ValueError(f"out_channels={layer.out_channels}: more than the {unit.out_channels} of the convolution")
    return layer
