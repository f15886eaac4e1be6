"""The depthwise-separable unit of MobileNetV1: depthwise first, pointwise after.

Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", 2017,
arXiv:1704.04861, section 3.1 and the right-hand side of figure 3.

In the figure a second batch norm and ReLU follow the pointwise convolution. They are the host's here, as behind every
other layer, so that the whole unit can be exchanged for another convolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from efficientconv.layers.base import ConvVariant, PaddingMode, Size2, rename_prefixes
from efficientconv.layers.batch_norm import folded


class DepthwiseSeparableConv2d(ConvVariant):
    """Depthwise-separable convolution with a batch norm and a ReLU between its two parts.

    ::

        x (i) ── k×k depthwise ── BN ── ReLU ── 1×1 ── y (o)

    Args:
        in_channels: i.
        out_channels: o.
        kernel_size: of the depthwise convolution, in pixels.
        stride: of the depthwise convolution, in pixels.
        padding: of the depthwise convolution, in pixels.
        dilation: of the depthwise convolution, in pixels.
        groups: 1.
        bias: whether the 1×1 has one; the depthwise convolution has none, since a batch norm follows.
        padding_mode: of the depthwise convolution.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: ``groups`` is not 1, or the geometry is none.
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
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode)
        self._require_dense()
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.depthwise = self._convolution(in_channels, in_channels, in_channels, False, **factory)
        self.bn: nn.Module = nn.BatchNorm2d(in_channels, **factory)
        self.relu = nn.ReLU(inplace=True)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=bias, **factory)
        self.reset_parameters()

    @property
    def bias(self) -> Tensor | None:
        """The 1×1 convolution's bias, (out_channels,), or None."""
        return self.pointwise.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W')."""
        return self.pointwise(self.relu(self.bn(self.depthwise(x))))

    def _fold_batch_norms(self) -> None:
        self.depthwise, self.bn = folded(self.depthwise, self.bn), nn.Identity()

    @staticmethod
    def from_authors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the keys of the unit in BSConv's repository; MobileNetV1's own code is not PyTorch's.

        The batch norm behind the 1×1, ``conv_pw.bn``, is the host's and left out.
        """
        own = {name: value for name, value in state_dict.items() if not name.startswith("conv_pw.bn.")}
        return rename_prefixes(own, {"conv_dw.conv": "depthwise", "conv_dw.bn": "bn", "conv_pw.conv": "pointwise"})
