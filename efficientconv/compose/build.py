"""One convolution's successor: the same geometry, the same place, the same device, data type and mode."""

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
    """Pads as TensorFlow's SAME does, so that the convolution behind it puts out ⌈H/stride⌉ rows of any input.

    What cannot be shared equally goes to the right and the bottom.

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
    """What takes a unit's place.

    Attributes:
        module: what goes into the model.
        layer: the layer in it; ``module`` itself, unless something has to stand in front.
        note: what differs beside the layer, in a few words; empty where nothing does.
        is_same: whether it computes and stores what the unit did.
    """

    module: nn.Module
    layer: Layer
    note: str
    is_same: bool


def build_successor(factory: Factory, unit: Unit, device: torch.device | str | None = None) -> Successor:
    """Build what takes the place of ``unit``: its geometry, device, data type, mode and frozenness.

    A layer that is an ``nn.Conv2d`` of the same shape takes over the weights, all others start with their own.

    Args:
        factory: takes ``nn.Conv2d``'s arguments and returns a ``ConvVariant`` or an ``nn.Conv2d``.
        unit: the convolution or depthwise-separable unit that it replaces.
        device: where to build it; by default where the weight of ``unit`` is.

    Raises:
        ValueError: the layer refuses this geometry, or widens.
        TypeError: ``factory`` returned something else.
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


def adds_to_conv2d(unit: Unit) -> bool:
    """Tell whether ``unit`` is of a class that does more than ``nn.Conv2d`` and padding: it standardises, say.

    timm's ``Conv2dSame`` does not. It is told by its name, so that timm need not be imported for it.
    """
    return isinstance(unit, nn.Conv2d) and type(unit) is not nn.Conv2d and type(unit).__name__ != "Conv2dSame"


def _pads_by_input(unit: Unit) -> bool:
    """Tell whether ``unit`` puts out ⌈H/stride⌉ rows where its numbers say otherwise, by trying two sizes.

    Raises:
        ValueError: it puts out neither what its numbers say nor ⌈H/stride⌉ rows.
    """
    if isinstance(unit.padding, str) or type(unit) is nn.Conv2d or not isinstance(unit, nn.Conv2d):
        return unit.padding == "same"
    spans = [d * (k - 1) + 1 for k, d in zip(unit.kernel_size, unit.dilation, strict=True)]
    sizes = [4 * max(spans), 4 * max(spans) + 1]
    geometry = list(zip(spans, unit.padding, unit.stride, strict=True))
    told = [tuple((size + 2 * pad - span) // stride + 1 for span, pad, stride in geometry) for size in sizes]
    same = [tuple(-(-size // stride) for stride in unit.stride) for size in sizes]
    found = [_output_size(unit, size) for size in sizes]
    if found not in (told, same):
        raise ValueError(f"{type(unit).__name__} puts out {found[0]} of {sizes[0], sizes[0]} pixels, not {told[0]}")
    return found != told


def _output_size(conv: nn.Conv2d, size: int) -> tuple[int, ...]:
    image = torch.empty(1, conv.in_channels, size, size, device="meta", dtype=conv.weight.dtype)
    with torch.no_grad():
        return tuple(meta_copy(conv)(image).shape[2:])


def _padded_alike(factory: Factory, unit: Unit, place: dict[str, Any]) -> tuple[nn.Module, Layer, str]:
    """Build the layer, alone or behind a padding, so that it puts out as many pixels as ``unit``; and say how."""
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
            f"layer: a factory of ConvVariant or nn.Conv2d is needed, this one made a {type(layer).__name__}"
        )
    if layer.out_channels > unit.out_channels:
        raise ValueError(f"out_channels={layer.out_channels}: more than the {unit.out_channels} that were asked for")
    return layer
