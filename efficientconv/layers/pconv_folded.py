"""PConv for inference, with the norm behind it in it: also the channels that pass are scaled and shifted."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from efficientconv.layers.batch_norm import rescaled, rescaled_shift
from efficientconv.layers.ending import Ending
from efficientconv.layers.folded_form import FoldedForm
from efficientconv.layers.pconv_native import inference, native_library
from efficientconv.native import Library

if TYPE_CHECKING:
    from efficientconv.layers.pconv import PConv2d


class FoldedPConv(FoldedForm):
    """``concat(conv(x₁), scale·x₂ + shift)``, the first channels to x₁.

    Args:
        layer: it stays as it is.
    """

    shift: Tensor | None
    """Of the norm that was taken over, (i,), with its scale; None for zero."""

    def __init__(self, layer: PConv2d) -> None:
        super().__init__()
        self.conv, self.in_channels = copy.deepcopy(layer.conv), layer.in_channels
        self.register_buffer("shift", None)

    def _native(self, x: Tensor) -> Library | None:
        return native_library(self, x)

    def _in_cpp(self, native: Library, x: Tensor, ending: Ending) -> Tensor:
        return inference(native, self, x, ending)

    def _by_operators(self, x: Tensor) -> Tensor:
        convolved, passed = x.split((self.conv.in_channels, self.in_channels - self.conv.in_channels), 1)
        y = self.conv(convolved)
        if self.scale is not None:
            passed = passed * self._of_passed(self.scale)
        if self.shift is not None:
            passed = passed.add_(self._of_passed(self.shift))
        return torch.cat((y, passed.to(y.dtype)), 1)

    def _of_passed(self, value: Tensor) -> Tensor:
        return value[self.conv.out_channels :].view(-1, 1, 1)

    def _rescale(self, scale: Tensor, shift: Tensor | None) -> None:
        convolved = self.conv.out_channels
        self.conv = rescaled(self.conv, scale[:convolved], None if shift is None else shift[:convolved])
        self.shift = rescaled_shift(self.shift, scale, shift)
