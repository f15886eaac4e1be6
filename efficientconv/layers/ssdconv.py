"""SSDConv: diverse features from one convolution behind another, and an attention to dissimilar channels.

Zhang, Hu, Zhou, Cao and Zhang, "Feature Diversity Learning for a Compact CNN Module" (similarity attention and serial
diversity convolution), IEEE Transactions on Emerging Topics in Computational Intelligence 2025,
ieeexplore.ieee.org/document/11010101; the layer is ``SSDConv`` of the authors' code.

Where the authors' code leaves a choice, this follows what it runs:

- A plain concatenation feeds the grouped convolution; the interleaving one is there and not used.
- The grouped convolution has as many groups as the greatest common divisor allows. With the default ``in_ratio`` and
  widths that are powers of two that is 1 or 2: the layer then saves nothing. ``in_ratio=0.5`` is cheap.
- The attention needs only each channel's mean similarity to all, which is its similarity to their mean: no table of
  channels by channels as in theirs, and the same numbers but for rounding.

Where the code breaks, this goes on or refuses: odd sizes at stride 2 work (theirs rounds down in the pooling and up
in the convolution), other strides and dilations work, and ratios that leave a branch empty or the sum without a
partner are refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efficientconv.layers.approximation import block_mask
from efficientconv.layers.base import ConvVariant, PaddingMode, Size2, rename_prefixes, require_whole
from efficientconv.layers.batch_norm import ScaleShift, rescaled, scale_and_shift
from efficientconv.layers.pooling import stride_pooling
from efficientconv.layers.serial_branch import begin_near_kernel
from efficientconv.layers.squeeze_excitation import SqueezeExcitation


class SSDConv2d(ConvVariant):
    """Similarity attention and serial diversity convolution.

    ::

        x ─┬─ first m ─┬─ k×k ───────────────────────────────── (b) ──┐
           │           └─ pool ─┐                                     concat ── BN ── y' ── y'·attention ─ + ── y (o)
           │                    concat ── BN ── k×k, grouped ── (d) ──┘                                    │
           └─ other ─── pool ── 1×1 (e) ─────────────────────────────────────────── [1×1, b groups] ───────┘

        m = ⌈i·in_ratio⌉,   b = ⌈o·out_ratio⌉,   d = o − b,   e = d·expansion,   gcd(d, m) groups
        attention = SE((1 − s)·mean y'),   s = mean over all channels of (1 + cosine)/2 of softmax over the pixels of y'

    Where e = o, as with the defaults and an even o, there is no grouped 1×1. Pool: s×s average at stride s.

    Args:
        in_channels: i.
        out_channels: o.
        kernel_size: k, of both k×k convolutions, in pixels.
        stride: s.
        padding: dilation·(kernel_size − 1)/2.
        dilation: of both k×k convolutions, in pixels.
        groups: 1.
        bias: accepted and without effect, since the output carries a batch norm's shift; ``self.bias`` is None.
        padding_mode: of both k×k convolutions.
        device: of the parameters.
        dtype: of the parameters.
        in_ratio: share of the input channels that is not expanded.
        out_ratio: share of the output channels that comes from the base branch.
        expansion: expanded channels for each diverse one; the authors' ``exp_times``.
        reduction: of the attention's two linear maps.

    Raises:
        ValueError: a ratio leaves a branch empty, e is neither o nor, as o, a multiple of b, ``padding`` is another,
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
        in_ratio: float = 0.7,
        out_ratio: float = 0.5,
        expansion: int = 2,
        reduction: int = 16,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode)
        self._require_dense()
        self._require_same_padding()
        require_whole("expansion", expansion)
        require_whole("reduction", reduction)
        main = _share("in_ratio", in_ratio, in_channels=in_channels)
        base = _share("out_ratio", out_ratio, out_channels=out_channels)
        diverse = out_channels - base
        expanded = diverse * expansion
        self._check_sum(base, expanded)
        self.split = (main, in_channels - main)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.base_conv = self._convolution(main, base, 1, False, **factory)
        self.expand = nn.Conv2d(self.split[1], expanded, 1, bias=False, **factory)
        self.bn1: nn.Module = nn.BatchNorm2d(main + expanded, **factory)
        self.diversity_conv = self._convolution(
            main + expanded, diverse, math.gcd(diverse, main), False, stride=1, **factory
        )
        self.bn2: nn.Module = nn.BatchNorm2d(out_channels, **factory)
        self.se = SqueezeExcitation(out_channels, max(2, out_channels // reduction), **factory)
        self.down: nn.Module = nn.Identity()
        if expanded != out_channels:
            self.down = nn.Conv2d(expanded, out_channels, 1, groups=base, bias=False, **factory)
        self.pool = stride_pooling(self.stride)
        self.register_parameter("bias", None)
        self.reset_parameters()

    def _check_sum(self, base: int, expanded: int) -> None:
        if expanded == self.out_channels or expanded % base == self.out_channels % base == 0:
            return
        raise ValueError(
            f"out_channels={self.out_channels}: the {expanded} expanded channels are added to the output, so that they "
            f"must be as many, or both a multiple of the {base} base channels; an even out_channels with out_ratio=0.5 "
            "and expansion=2 would fit"
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ⌈H/s⌉, ⌈W/s⌉)."""
        main, other = x.split(self.split, 1)
        base = self.base_conv(main)  # (N, b, H', W')
        expanded = self.expand(self.pool(other))  # (N, e, H', W')
        diverse = self.diversity_conv(self.bn1(torch.cat((self.pool(main), expanded), 1)))  # (N, d, H', W')
        y = self.bn2(torch.cat((base, diverse), 1))
        attention = self.se.weights(_dissimilarity(y) * y.mean((2, 3)))  # (N, o)
        return y * attention[:, :, None, None] + self.down(expanded)

    def approximate(self, weight: Tensor, bias: Tensor | None = None) -> float | None:
        """Begin near the kernel by alternating least squares of expansion and diversity, see ``begin_near_kernel``.

        A grouped 1×1 on the residual path keeps its initialisation. A kernel of even size has no approximation.
        """
        if not self._is_odd:
            return None
        return begin_near_kernel(self, self.base_conv, self._residual_matrix(), weight, bias)

    def _residual_matrix(self) -> Tensor:
        """Return what the residual path does to the expanded channels, (o, e)."""
        expanded = self.expand.out_channels
        if not isinstance(self.down, nn.Conv2d):
            return torch.eye(expanded)
        matrix = self.down.weight.new_zeros(self.out_channels, expanded)
        matrix[block_mask(self.out_channels, expanded, self.down.groups)] = self.down.weight.detach().flatten()
        return matrix

    def _fold_batch_norms(self) -> None:
        scales, shifts = (
            value.split((self.base_conv.out_channels, self.diversity_conv.out_channels))
            for value in scale_and_shift(self.bn2)
        )
        self.base_conv = rescaled(self.base_conv, scales[0], shifts[0])
        self.diversity_conv = rescaled(self.diversity_conv, scales[1], shifts[1])
        self.bn1, self.bn2 = ScaleShift(self.bn1), nn.Identity()

    @staticmethod
    def from_authors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the branches and the attention's linear maps; the other keys are the same."""
        branches = {"base_branch": "base_conv", "expand_operation": "expand", "diversity_branch": "diversity_conv"}
        return rename_prefixes(state_dict, {**branches, "fc.0": "se.fc1", "fc.2": "se.fc2"})


def _share(name: str, ratio: float, **channels: int) -> int:
    """Return ⌈channels·ratio⌉, which must leave something on both sides."""
    ((key, width),) = channels.items()
    share = math.ceil(width * ratio)
    if 0 < share < width:
        return share
    largest = math.floor((width - 1) / width * 1e4) / 1e4  # rounded down, so that the share does not become the whole
    advice = f"from above 0 to {largest:g}" if width > 1 else f"no {name}"
    raise ValueError(
        f"{name}={ratio}: ⌈{key}·{name}⌉ = {share} of {key}={width} must lie between 1 and {width - 1}; "
        f"{advice} would fit"
    )


def _dissimilarity(x: Tensor) -> Tensor:
    """Return 1 − the mean of (1 + cosine)/2 between each channel's spatial softmax and all: (N, C, H, W) → (N, C)."""
    directions = F.normalize(x.flatten(2).softmax(-1), dim=-1)  # (N, C, H·W)
    mean_cosine = (directions * directions.mean(1, keepdim=True)).sum(-1)
    return (1 - mean_cosine) / 2
