"""OctConv for inference: one convolution at full and one at half the resolution, one repetition and one sum.

At stride 2 the high-frequency output reads all channels at one resolution, the pooled one's, and at stride 1 those of
high frequency; all else is one convolution at half the resolution, with zeros where the other one gives what is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from efficientconv.layers.batch_norm import rescaled
from efficientconv.layers.ending import Ending
from efficientconv.layers.folded_form import FoldedForm
from efficientconv.layers.octconv_native import convolve_octaves_folded, native_folded_library
from efficientconv.native import Library

if TYPE_CHECKING:
    from efficientconv.layers.octconv import OctConv2d


class FoldedOctConv(FoldedForm):
    """``k×k(pooled high, or all, channels) + repeat(k×k(x pooled twice))``.

    Args:
        layer: dense, at stride 1 or 2; it stays as it is.
    """

    @torch.no_grad()
    def __init__(self, layer: OctConv2d) -> None:
        super().__init__()
        weight = layer.weight.detach()
        high_out = layer.out_channels - layer.low_out
        high_in = layer.in_channels - (layer.low_in if layer.stride == (1, 1) else 0)
        on_full = weight[:high_out, :high_in]
        on_half = weight.clone()
        on_half[:high_out, :high_in] = 0
        self.pool, self.octave = layer.pool, layer.octave
        self.at_full = layer.convolution_of(on_full, None, stride=1)
        self.at_half = layer.convolution_of(on_half, layer.bias, stride=1)

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """As any folded form's, of what the stride pools."""
        return super().forward(self.pool(x), shortcut)

    def _native(self, x: Tensor) -> Library | None:
        return native_folded_library(self, x)

    def _in_cpp(self, native: Library, x: Tensor, ending: Ending) -> Tensor:
        return convolve_octaves_folded(native, self, x, ending)

    def _by_operators(self, x: Tensor) -> Tensor:
        y = F.interpolate(self.at_half(self.octave(x)), size=x.shape[2:], mode="nearest")
        high = self.at_full(x[:, : self.at_full.in_channels])
        parts = (high.shape[1], y.shape[1] - high.shape[1])
        if not parts[1]:
            return y.add_(high)
        if torch.compiler.is_compiling():
            y_high, y_low = y.split(parts, 1)
            return torch.cat((y_high + high, y_low), 1)
        y.narrow(1, 0, parts[0]).add_(high)
        return y

    def _rescale(self, scale: Tensor, shift: Tensor | None) -> None:
        self.at_full = rescaled(self.at_full, scale[: self.at_full.out_channels])
        self.at_half = rescaled(self.at_half, scale, shift)
