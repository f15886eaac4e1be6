"""SCConv for inference: the gate's norm and weights as one norm, the two paths as two convolutions.

A 1×1 without bias and what follows it are one kernel: k×k for the upper path, which has more multiply-adds than the two
and is one operator, and 1×1 for the lower, whose squeezed channels are rows of it.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from efficientconv.layers.ending import Ending
from efficientconv.layers.folded_form import FoldedForm
from efficientconv.layers.folded_fusion import FoldedFusion
from efficientconv.layers.reparameterization import behind_1x1, dense, sum_of_convolutions, with_zeros_in_front
from efficientconv.layers.scconv_native import Factors, native_folded_library, reconstruct_folded
from efficientconv.native import Library

if TYPE_CHECKING:
    from efficientconv.layers.scconv import SCConv2d


class FoldedSCConv(FoldedForm):
    """``fusion(z)``, with z the spatially reconstructed x.

    Args:
        layer: it stays as it is.
    """

    @torch.no_grad()
    def __init__(self, layer: SCConv2d) -> None:
        super().__init__()
        self.norm = copy.deepcopy(layer.norm)  # (norm(x)·γ/Σγ) is a norm too
        share = self.norm.weight / self.norm.weight.sum()
        self.norm.weight.mul_(share)
        self.norm.bias.mul_(share)
        self.threshold = layer.threshold_of_scores
        self.conv_groups = layer.gwc.groups
        self.origin = Factors.of(layer)
        first = behind_1x1(layer.squeeze1, sum_of_convolutions(dense(layer.gwc), layer.pwc1))
        second = copy.deepcopy(layer.squeeze2)
        made = behind_1x1(layer.squeeze2, layer.pwc2)
        second.weight = nn.Parameter(torch.cat((made.weight, second.weight)))
        second.out_channels = layer.out_channels
        self.fusion = FoldedFusion(first, None, with_zeros_in_front(second, layer.in_channels), nn.Identity())

    def _native(self, x: Tensor) -> Library | None:
        return native_folded_library(self, x)

    def _in_cpp(self, native: Library, x: Tensor, ending: Ending) -> Tensor:
        return reconstruct_folded(native, self, x, ending)

    def _by_operators(self, x: Tensor) -> Tensor:
        scores = self.norm(x)
        informative = scores.clone().gt_(self.threshold)  # 1 or 0: sums with it are exact, and ``where`` is slow
        weights = scores.sigmoid_()
        redundant = weights.addcmul(weights, informative, value=-1).mul_(x)
        z = torch.addcmul(redundant, x, informative)
        return self.fusion(z.add_(redundant.roll(x.shape[1] // 2, 1)))

    def _rescale(self, scale: Tensor, shift: Tensor | None) -> None:
        self.fusion = self.fusion.rescaled(scale, shift)
        self.origin = self.origin and self.origin.rescaled(scale, shift)
