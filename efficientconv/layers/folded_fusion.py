"""SPConv's and SCConv's fusion for inference, with one gate in place of a softmax over two.

Of β₁ + β₂ = 1 follows β₁ = sigmoid(mean y₁ − mean y₂) and β₁·y₁ + β₂·y₂ = y₂ + β₁·(y₁ − y₂): one pass over both. A norm
behind, scale s and shift t, goes into the two sides, since the same t comes out of them; the gate takes 1/s out again.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from efficientconv.layers.batch_norm import rescaled
from efficientconv.layers.cpu_forms import pointwise
from efficientconv.layers.ending import Ending
from efficientconv.layers.folded_form import FoldedForm
from efficientconv.layers.folded_fusion_native import inference, native_library
from efficientconv.native import Library


class FoldedFusion(FoldedForm):
    """``y₂ + sigmoid(mean y₁ − mean y₂)·(y₁ − y₂)``, the first channels to y₁, the others to y₂.

    ::

        x ─┬─ first a ─┬─ k×k ──────────┐
           │           └─ [pool ── 1×1] ┴─ y₁
           └─ other ───── pool ── 1×1 ──── y₂

    Args:
        first: of the first a channels.
        beside: of the first a channels, pooled, added to what ``first`` gives; None where ``first`` contains it.
        second: of the other, last channels, pooled; or of all, with zeros for the first.
        pool: of the stride.
        groups: outside which a dense ``first`` is zero but at its centre.
    """

    def __init__(
        self, first: nn.Conv2d, beside: nn.Conv2d | None, second: nn.Conv2d, pool: nn.Module, groups: int = 1
    ) -> None:
        super().__init__()
        self.first, self.beside, self.second, self.pool, self.groups = first, beside, second, pool, groups

    def _native(self, x: Tensor) -> Library | None:
        return native_library(self, x)

    def _in_cpp(self, native: Library, x: Tensor, ending: Ending) -> Tensor:
        return inference(native, self, x, ending)

    def _by_operators(self, x: Tensor) -> Tensor:
        one, other = x[:, : self.first.in_channels], x[:, x.shape[1] - self.second.in_channels :]
        y1 = self.first(one)
        if self.beside is not None:
            y1 = y1.add_(pointwise(self.beside, self.pool(one)))
        y2 = pointwise(self.second, self.pool(other))
        difference = y1.mean((2, 3), keepdim=True) - y2.mean((2, 3), keepdim=True)
        if self.scale is not None:
            scale = self.scale.view(-1, 1, 1)
            difference = torch.where(scale == 0, 0, difference / scale)  # both sides are the shift: any gate will do
        return _between(y2, y1, difference.sigmoid())

    def _rescale(self, scale: Tensor, shift: Tensor | None) -> None:
        self.first, self.second = rescaled(self.first, scale, shift), rescaled(self.second, scale, shift)
        self.beside = self.beside and rescaled(self.beside, scale)


def _between(start: Tensor, end: Tensor, weight: Tensor) -> Tensor:
    """Return ``start + weight·(end − start)``, in the place of ``start``.

    As ``lerp`` it is one pass, and without a new array twice as fast; a compiler and ONNX make two cases of each value.
    """
    if torch.compiler.is_compiling():
        return start + weight * (end - start)
    return start.lerp_(end, weight)
