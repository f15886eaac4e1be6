"""Ghost module: a convolution makes a part of the channels, cheap depthwise ones make the others from them.

Han, Wang, Tian, Guo, Xu and Xu, "GhostNet: More Features from Cheap Operations", CVPR 2020, arXiv:1911.11907, section
3.1, equations 2 and 3; the layer is ``GhostModule`` of the authors' code.

The authors' code and their advice differ, and this file keeps both:

- In the code, which builds GhostNet, a batch norm (and mostly a ReLU) follows each of the two convolutions. Where
  Ghost modules replace the convolutions of another network they advise to leave them out, since the host's own
  follow: ``with_bn=False``. No ReLU here either way; ``with_bn=True`` is their module with ``relu=False``.
- The code's kernel is 1×1 by default; in the place of another convolution it is that one's (their advice for VGG-16
  and ResNet-56).

Where ``ratio`` does not divide the width, the last ghosts are computed and dropped, as theirs are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from efficientconv.layers.base import ConvVariant, PaddingMode, Size2, rename_prefixes, require_whole
from efficientconv.layers.batch_norm import folded


class GhostConv2d(ConvVariant):
    """Ghost module in a convolution's place.

    ::

        x (i) ── k×k ── [BN] (a) ─┬──────────────────────────────────────┐
                                  └─ d×d depthwise ── [BN] (a·(s − 1)) ─ concat ── first o ── y (o)

        a = ⌈o/s⌉, with s the ratio

    k²·i·a + d²·a·(s − 1) weights in place of k²·i·o.

    Args:
        in_channels: i.
        out_channels: o.
        kernel_size: of the primary convolution, in pixels.
        stride: of the primary convolution, in pixels.
        padding: of the primary convolution, in pixels.
        dilation: of the primary convolution, in pixels.
        groups: 1.
        bias: whether the two convolutions have one each, so that every output channel has; ``self.bias`` is the
            primary's, (a,). With ``with_bn`` accepted and without effect, since batch norms follow; None then.
        padding_mode: of both convolutions.
        device: of the parameters.
        dtype: of the parameters.
        ratio: s, output channels for each channel of the primary convolution.
        cheap_kernel_size: d, of the depthwise convolution, odd, in pixels.
        with_bn: a batch norm after each of the two convolutions.

    Raises:
        ValueError: ``ratio`` is below 2, ``cheap_kernel_size`` is even, ``groups`` is not 1, or the geometry is none.
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
        ratio: int = 2,
        cheap_kernel_size: int = 3,
        with_bn: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode)
        self._require_dense()
        require_whole("ratio", ratio, least=2)
        require_whole("cheap_kernel_size", cheap_kernel_size)
        if cheap_kernel_size % 2 == 0:
            fitting = f"{cheap_kernel_size - 1} or {cheap_kernel_size + 1}"
            raise ValueError(f"cheap_kernel_size={cheap_kernel_size}: must be odd; {fitting} would fit")
        intrinsic = math.ceil(out_channels / ratio)
        ghosts = intrinsic * (ratio - 1)
        bias = bias and not with_bn
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.primary = self._convolution(in_channels, intrinsic, 1, bias, **factory)
        self.bn1 = nn.BatchNorm2d(intrinsic, **factory) if with_bn else nn.Identity()
        self.cheap = nn.Conv2d(
            intrinsic,
            ghosts,
            cheap_kernel_size,
            padding=cheap_kernel_size // 2,
            groups=intrinsic,
            bias=bias,
            padding_mode=padding_mode,
            **factory,
        )
        self.bn2 = nn.BatchNorm2d(ghosts, **factory) if with_bn else nn.Identity()
        self.reset_parameters()

    @property
    def bias(self) -> Tensor | None:
        """The primary convolution's bias, (a,), or None."""
        return self.primary.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W')."""
        intrinsic = self.bn1(self.primary(x))  # (N, a, H', W')
        ghosts = self.bn2(self.cheap(intrinsic))  # (N, a·(s − 1), H', W')
        return torch.cat((intrinsic, ghosts[:, : self.out_channels - intrinsic.shape[1]]), 1)

    def _fold_batch_norms(self) -> None:
        self.primary, self.bn1 = folded(self.primary, self.bn1), nn.Identity()
        self.cheap, self.bn2 = folded(self.cheap, self.bn2), nn.Identity()

    @staticmethod
    def from_authors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Name the convolutions and norms inside the authors' ``primary_conv`` and ``cheap_operation``."""
        primary = {"primary_conv.0": "primary", "primary_conv.1": "bn1"}
        return rename_prefixes(state_dict, {**primary, "cheap_operation.0": "cheap", "cheap_operation.1": "bn2"})
