"""BDRConv: half of the channels give intrinsic features, the other half is expanded to add diverse ones.

Zhang, Hu, Zhou, Zhang and Cao, "Compact CNN module balancing between feature diversity and redundancy", Neural Networks
188, 2025, 107456, doi:10.1016/j.neunet.2025.107456; the layer is ``BDRConv`` of the authors' code.

Where the authors' code and the paper's figure differ, this follows the code:

- The figure draws a standard convolution in the base branch; the code's default, and the authors' usage, is 1×1. Set
  ``main_kernel_size=3`` for the figure's.
- The figure draws a grouped 1×1 convolution on the residual path; the code adds the expanded features as they are.
- No ReLU inside, though the code makes one.

Where the code breaks, this goes on or refuses: odd sizes at stride 2 work (theirs rounds down in the pooling and up in
the convolution), other strides and dilations work, ``split=False`` does not exist, and widths that the layer cannot
have are refused with the nearest that it can.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any, cast

import torch
from torch import Tensor, nn

from efficientconv.layers.affine import gated_norm
from efficientconv.layers.base import ConvVariant, PaddingMode, Size2, rename_prefixes, require_whole, whole_pair
from efficientconv.layers.batch_norm import ScaleShift, rescaled, scale_and_shift
from efficientconv.layers.bdrconv_folded import FoldedBDRConv
from efficientconv.layers.bdrconv_native import Operands, inference, native_library, training_step
from efficientconv.layers.cpu_forms import grouped, pointwise
from efficientconv.layers.folded_form import is_narrow
from efficientconv.layers.pooling import stride_pooling
from efficientconv.layers.serial_branch import begin_near_kernel
from efficientconv.layers.squeeze_excitation import SqueezeExcitation


class BDRConv2d(ConvVariant):
    """Convolution that balances diversity and redundancy.

    ::

        x ─┬─ first m ─┬─ main_kernel_size ────────────────────────────── (a) ─┐
           │           └─ pool ─┐                                              concat ── BN ── SE ─ + ── y (o)
           │                    concat ── BN ── k×k, m groups ─────── (o − a) ─┘                    │
           └─ other ─── pool ── 1×1 (o) ─────────────────────────────────────────────────────────── ┘

        m = i − ⌊i/in_ratio⌋,   a = o/out_ratio;   pool: s×s average at stride s

    Args:
        in_channels: i.
        out_channels: o, a multiple of ``out_ratio`` and m, with o − a a multiple of m. With the default ratios and an
            even i: a multiple of i.
        kernel_size: k, of the grouped convolution, in pixels.
        stride: s.
        padding: dilation·(kernel_size − 1)/2.
        dilation: of both convolutions, in pixels.
        groups: 1.
        bias: accepted and without effect, since the output carries a batch norm's shift; ``self.bias`` is None.
        padding_mode: of both convolutions.
        device: of the parameters.
        dtype: of the parameters.
        main_kernel_size: of the base branch, odd, in pixels.
        in_ratio: one input channel in so many is expanded.
        out_ratio: one output channel in so many comes from the base branch.
        expansion: expanded channels for each channel of the base branch; equal to ``out_ratio``, since the expanded
            features are added to the output.
        reduction: of the squeeze-excitation.

    Raises:
        ValueError: the ratios do not fit the widths, ``main_kernel_size`` is even, ``padding`` is another, ``groups``
            is not 1, or the geometry is none.
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
        main_kernel_size: Size2 = 1,
        in_ratio: int = 2,
        out_ratio: int = 2,
        expansion: int = 2,
        reduction: int = 16,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode)
        self._require_dense()
        self._require_same_padding()
        self._check_ratios(in_ratio, out_ratio, expansion)
        require_whole("reduction", reduction)
        self.split = (in_channels - in_channels // in_ratio, in_channels // in_ratio)
        main, base = self.split[0], out_channels // out_ratio
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.main_conv = self._main_convolution(main, base, main_kernel_size, factory)
        self.expand = nn.Conv2d(self.split[1], out_channels, 1, bias=False, **factory)
        self.bn1: nn.Module = nn.BatchNorm2d(main + out_channels, **factory)
        self.diversity_conv = self._convolution(
            main + out_channels, out_channels - base, main, False, stride=1, **factory
        )
        self.bn2: nn.Module = nn.BatchNorm2d(out_channels, **factory)
        self.se = SqueezeExcitation(out_channels, max(2, out_channels // reduction), **factory)
        self.pool = stride_pooling(self.stride)
        self.register_parameter("bias", None)
        self.reset_parameters()

    def _main_convolution(self, main: int, base: int, kernel_size: Size2, factory: dict[str, Any]) -> nn.Conv2d:
        rows, columns = whole_pair("main_kernel_size", kernel_size)
        if rows % 2 == 0 or columns % 2 == 0:
            raise ValueError(f"main_kernel_size={kernel_size}: must be odd; {rows | 1, columns | 1} would fit")
        padding = (self.dilation[0] * (rows - 1) // 2, self.dilation[1] * (columns - 1) // 2)
        return nn.Conv2d(
            main,
            base,
            (rows, columns),
            self.stride,
            padding,
            self.dilation,
            bias=False,
            padding_mode=self.padding_mode,
            **factory,
        )

    def _check_ratios(self, in_ratio: int, out_ratio: int, expansion: int) -> None:
        require_whole("in_ratio", in_ratio, least=2)
        require_whole("out_ratio", out_ratio, least=2)
        if in_ratio > self.in_channels:
            raise ValueError(
                f"in_ratio={in_ratio}: must be at most in_channels={self.in_channels}, or no channel is expanded"
            )
        if expansion != out_ratio:
            raise ValueError(
                f"expansion={expansion}: the expanded features are added to the output, so that they must be as many; "
                f"expansion={out_ratio}, equal to out_ratio, would fit"
            )
        if not self._fits(self.out_channels, in_ratio, out_ratio):
            raise ValueError(
                f"out_channels={self.out_channels}: out_ratio={out_ratio} must divide it, and the main channels, "
                f"in_channels − in_channels//in_ratio = {self.in_channels - self.in_channels // in_ratio}, must divide "
                f"both it and out_channels·(1 − 1/out_ratio); {self._fitting(in_ratio, out_ratio)} would fit"
            )

    def _fits(self, out: int, in_ratio: int, out_ratio: int) -> bool:
        """Tell whether the main channels, as groups, divide the k×k convolution's main + out inputs and its outputs."""
        main = self.in_channels - self.in_channels // in_ratio
        return out % out_ratio == 0 and out % main == 0 and (out - out // out_ratio) % main == 0

    def _fitting(self, in_ratio: int, out_ratio: int) -> str:
        """Name the nearest widths that fit, and the smallest other ``in_ratio`` if there is one."""
        step = next(out for out in count(1) if self._fits(out, in_ratio, out_ratio))
        below = self.out_channels // step * step
        fitting = [f"out_channels={out}" for out in (below, below + step) if out]
        ratios = range(2, self.in_channels + 1)
        fitting += [f"in_ratio={ratio}" for ratio in ratios if self._fits(self.out_channels, ratio, out_ratio)][:1]
        return " or ".join(fitting)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ⌈H/s⌉, ⌈W/s⌉)."""
        if native := native_library(self, x):
            return training_step(native, self, x) if self.training else inference(native, self, Operands.of(self), x)
        main, other = x.split(self.split, 1)
        intrinsic = pointwise(self.main_conv, main)  # (N, a, H', W')
        expanded = pointwise(self.expand, self.pool(other))  # (N, o, H', W')
        features = self.bn1(torch.cat((self.pool(main), expanded), 1))  # (N, m + o, H', W')
        diverse = grouped(self.diversity_conv, features)  # (N, o − a, H', W')
        y = torch.cat((intrinsic, diverse), 1)
        return gated_norm(y, self.bn2, self.se.weights).add_(expanded)

    def approximate(self, weight: Tensor, bias: Tensor | None = None) -> float | None:
        """Begin near the kernel by alternating least squares of expansion and diversity, see ``begin_near_kernel``.

        A kernel of even size has no approximation.
        """
        if not self._is_odd:
            return None
        return begin_near_kernel(self, self.main_conv, torch.eye(self.out_channels), weight, bias)

    def fold(self) -> nn.Module:
        """Return one dense convolution and the gate where channels are few; else a copy with folded batch norms."""
        has_norms = isinstance(self.bn2, nn.BatchNorm2d)
        is_dense = has_norms and is_narrow(self.in_channels, self.out_channels)
        folded = cast(BDRConv2d, super().fold())
        return FoldedBDRConv(self, folded).eval() if is_dense else folded

    def _fold_batch_norms(self) -> None:
        scales, shifts = (
            value.split((self.main_conv.out_channels, self.diversity_conv.out_channels))
            for value in scale_and_shift(self.bn2)
        )
        self.main_conv = rescaled(self.main_conv, scales[0], shifts[0])
        self.diversity_conv = rescaled(self.diversity_conv, scales[1], shifts[1])
        self.bn1, self.bn2 = ScaleShift(self.bn1), nn.Identity()

    @staticmethod
    def from_authors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the branches and the squeeze-excitation; the batch norms keep their names."""
        branches = {"main_part": "main_conv", "expand_operation": "expand", "detail_part": "diversity_conv"}
        return rename_prefixes(state_dict, {**branches, "fc.0": "se.fc1", "fc.2": "se.fc2"})
