"""SPConv: a few representative channels get the k×k convolution, the redundant rest a 1×1.

Zhang, Jiang, Lu, Han, Zeng, Gao and Men, "Split to Be Slim: An Overlooked Redundancy in Vanilla Convolution", IJCAI
2020, arXiv:2006.12085, doi:10.24963/ijcai.2020/442, section 3; the layer is ``SPConv_3x3`` of the authors' code.

Where the authors' code and paper differ, this follows the code:

- The k×k convolution has two groups whatever α is; the code computes 1/α and does not use it.
- The 1×1 of the redundant part has a bias, in front of its batch norm.

Where the code breaks, this goes on: odd sizes at stride 2 (theirs rounds down in the pooling and up in the
convolution), other kernels, strides and dilations. Splits that cannot be built are refused.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from efficientconv.layers.approximation import (
    block_mask,
    centre,
    grouped_weight,
    on_pooled_grid,
    relative_error,
    set_bias,
)
from efficientconv.layers.base import ConvVariant, PaddingMode, Size2, require_whole
from efficientconv.layers.batch_norm import begin_as, folded, rescaled, scale_and_shift
from efficientconv.layers.cpu_forms import pointwise
from efficientconv.layers.folded_form import is_narrow
from efficientconv.layers.folded_fusion import FoldedFusion
from efficientconv.layers.fusion import softmax_fusion_of_norms
from efficientconv.layers.initialization import reset_to_kaiming_fan_out
from efficientconv.layers.pooling import stride_pooling
from efficientconv.layers.reparameterization import dense, sum_of_convolutions, with_zeros_in_front
from efficientconv.layers.spconv_native import inference, native_library, training_step


class SPConv2d(ConvVariant):
    """Split-based convolution with a fusion that needs no parameters.

    ::

        x ─┬─ first a = ⌊α·i⌋ ─┬─ k×k, gwc_groups ─┐
           │                   └─ pool ── 1×1 ─────┴─ + ── BN ── y₁ ─┐
           └─ other i − a ──────── pool ── 1×1 + bias ──── BN ── y₂ ─┴─ β₁·y₁ + β₂·y₂

        (β₁, β₂) = softmax(mean y₁, mean y₂) for each image and channel;   pool: s×s average at stride s

    Args:
        in_channels: i.
        out_channels: o.
        kernel_size: of the k×k convolution, in pixels.
        stride: s.
        padding: dilation·(kernel_size − 1)/2.
        dilation: of the k×k convolution, in pixels.
        groups: 1.
        bias: accepted and without effect, since the output carries two batch norms' shifts; ``self.bias`` is None.
        padding_mode: of the k×k convolution.
        device: of the parameters.
        dtype: of the parameters.
        alpha: share of the input channels that is representative; the paper's are 1/2, 1/4, 1/8 and 1/16.
        gwc_groups: groups of the k×k convolution; the authors' 2.

    Raises:
        ValueError: α leaves one of the two parts empty, ``gwc_groups`` does not divide a or o, ``padding`` is another,
            ``groups`` is not 1, or the geometry is none.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size2,
        stride: Size2 = 1,
        padding: Size2 | str = 0,
        dilation: Size2 = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        alpha: float = 0.5,
        gwc_groups: int = 2,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode)
        self._require_dense()
        self._require_same_padding()
        self._check_split(alpha, gwc_groups)
        representative = int(in_channels * alpha)
        self.split = (representative, in_channels - representative)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.gwc = self._convolution(representative, out_channels, gwc_groups, False, **factory)
        self.pwc = nn.Conv2d(representative, out_channels, 1, bias=False, **factory)
        self.bn1: nn.Module = nn.BatchNorm2d(out_channels, **factory)
        self.conv1x1 = nn.Conv2d(self.split[1], out_channels, 1, **factory)
        self.bn2: nn.Module = nn.BatchNorm2d(out_channels, **factory)
        self.pool = stride_pooling(self.stride)
        self.register_parameter("bias", None)
        self.reset_parameters()

    def _check_split(self, alpha: float, gwc_groups: int) -> None:
        require_whole("gwc_groups", gwc_groups)
        if self.out_channels % gwc_groups:
            raise ValueError(f"gwc_groups={gwc_groups}: must divide out_channels={self.out_channels}")
        representative = int(self.in_channels * alpha)
        if 0 < representative < self.in_channels and representative % gwc_groups == 0:
            return
        fitting = range(gwc_groups, self.in_channels, gwc_groups)
        nearest = min(fitting, key=lambda a: abs(a - self.in_channels * alpha), default=None)
        # rounded up, so that int(in_channels·alpha) does not fall below
        advice = f"alpha={math.ceil(nearest / self.in_channels * 1e4) / 1e4:g} ({nearest})" if nearest else "no alpha"
        raise ValueError(
            f"alpha={alpha}: int(in_channels·alpha) = {representative} of in_channels={self.in_channels} must be a "
            f"multiple of gwc_groups={gwc_groups} between 1 and {self.in_channels - 1}; {advice} would fit"
        )

    def reset_parameters(self) -> None:
        """Kaiming normal fan-out for the weights, torch's default for the bias, as the authors' models do."""
        reset_to_kaiming_fan_out(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ⌈H/s⌉, ⌈W/s⌉)."""
        if native := native_library(self, x):
            return (training_step if self.training else inference)(native, self, x)
        representative, redundant = x.split(self.split, 1)
        y1 = self.gwc(representative).add_(pointwise(self.pwc, self.pool(representative)))
        y2 = pointwise(self.conv1x1, self.pool(redundant))
        return softmax_fusion_of_norms(y1, self.bn1, y2, self.bn2)

    @torch.no_grad()
    def approximate(self, weight: Tensor, bias: Tensor | None = None) -> float | None:
        """Begin with the k×k kernels in the groups, and what a 1×1 of pooled pixels can give outside: a projection.

        Both sides are doubled, since the fusion begins with β = 1/2: it rests where the means of both sides are equal,
        which ``settle`` sees to. In the groups the 1×1 is zero. A kernel of even size has no approximation.
        """
        if not self._is_odd:
            return None
        kernel, groups, representative = weight.double(), self.gwc.groups, self.split[0]
        in_group = torch.zeros(kernel.shape[:2], dtype=torch.bool)
        in_group[:, :representative] = block_mask(self.out_channels, representative, groups)
        pooled = centre(on_pooled_grid(kernel, self.dilation, self.padding, self.stride)).masked_fill(in_group, 0)
        self.gwc.weight.copy_(grouped_weight(kernel[:, :representative], groups))
        self.pwc.weight.copy_(pooled[:, :representative, None, None])
        self.conv1x1.weight.copy_(pooled[:, representative:, None, None])
        set_bias(self.conv1x1.bias, None)
        begin_as(self.bn1, scale=2, shift=bias)
        begin_as(self.bn2, scale=2, shift=bias)
        squared_error = kernel[~in_group].square().sum() - pooled.square().sum() / math.prod(self.stride)
        return relative_error(squared_error, kernel)

    @torch.no_grad()
    def settle(self) -> None:
        """Give both sides the same mean over all images, with the same sum: β is 1/2 on average."""
        if isinstance(self.bn1, nn.BatchNorm2d) and isinstance(self.bn2, nn.BatchNorm2d):
            mean = (self.bn1.bias + self.bn2.bias) / 2  # a norm's bias is the mean of what it gives
            self.bn1.bias.copy_(mean)
            self.bn2.bias.copy_(mean)

    @torch.no_grad()
    def fold(self) -> nn.Module:
        """Return two or three convolutions and a gate; where channels are few, one k×k takes the 1×1 beside it in."""
        scale, shift = scale_and_shift(self.bn1)
        gwc, pwc, second = rescaled(self.gwc, scale, shift), rescaled(self.pwc, scale), folded(self.conv1x1, self.bn2)
        if self.stride != (1, 1) or not self._is_odd or not is_narrow(self.in_channels, self.out_channels):
            return FoldedFusion(gwc, pwc, second, self.pool, self.gwc.groups).eval()
        first, second = sum_of_convolutions(dense(gwc), pwc), with_zeros_in_front(second, self.in_channels)
        return FoldedFusion(first, None, second, self.pool, self.gwc.groups).eval()
