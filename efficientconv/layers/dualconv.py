"""DualConv: a grouped k×k and a pointwise convolution over the same input, summed.

Zhong, Chen and Mian, "DualConv: Dual Convolutional Kernels for Lightweight Deep Neural Networks", IEEE Transactions
on Neural Networks and Learning Systems 2022, arXiv:2202.07481, doi:10.1109/TNNLS.2022.3151138, section III; the layer
is ``DualConv`` of the authors' code.

It is the layer that open code calls an approximate HetConv with P = G. Where the authors' code is for 3×3 kernels
without bias, this takes any odd kernel, and a bias where the replaced convolution has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from efficientconv.layers.approximation import block_mask, centre, grouped_weight, relative_error, set_bias
from efficientconv.layers.base import ConvVariant, PaddingMode, Size2, rename_prefixes, require_divisor
from efficientconv.layers.folded_form import is_narrow
from efficientconv.layers.reparameterization import dense, sum_of_convolutions


class DualConv2d(ConvVariant):
    """Convolution with dual kernels: k×k within each of G groups, 1×1 across all channels.

    ::

        x (i) ─┬─ k×k, G groups ─┬─ + ── y (o)
               └─ 1×1 ───────────┘

    i·o·(k²/G + 1) weights in place of k²·i·o.

    Args:
        in_channels: i, a multiple of ``gwc_groups``.
        out_channels: o, a multiple of ``gwc_groups``.
        kernel_size: k, odd, in pixels.
        stride: of both convolutions, in pixels.
        padding: dilation·(kernel_size − 1)/2.
        dilation: of the k×k convolution, in pixels.
        groups: 1.
        bias: whether the k×k convolution has one; the 1×1 has none.
        padding_mode: of the k×k convolution.
        device: of the parameters.
        dtype: of the parameters.
        gwc_groups: G, of the k×k convolution; the paper's are 2, 4, 8 and 16.

    Raises:
        ValueError: ``gwc_groups`` does not divide i and o, ``padding`` is another, ``groups`` is not 1, or the
            geometry is none.
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
        gwc_groups: int = 2,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode)
        self._require_dense()
        self._require_same_padding()
        require_divisor("gwc_groups", gwc_groups, in_channels=in_channels, out_channels=out_channels)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.gwc = self._convolution(in_channels, out_channels, gwc_groups, bias, **factory)
        self.pwc = nn.Conv2d(in_channels, out_channels, 1, self.stride, bias=False, **factory)
        self.reset_parameters()

    @property
    def bias(self) -> Tensor | None:
        """The k×k convolution's bias, (out_channels,), or None."""
        return self.gwc.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ⌈H/s⌉, ⌈W/s⌉), with s the stride."""
        return self.gwc(x) + self.pwc(x)

    @torch.no_grad()
    def approximate(self, weight: Tensor, bias: Tensor | None = None) -> float | None:
        """Begin with the k×k kernels in the groups, and the centres outside: a projection, the nearest there is.

        The pointwise weights in the groups are zero. A kernel of even size, which has no centre, has no approximation.
        """
        if not self._is_odd:
            return None
        kernel, groups = weight.double(), self.gwc.groups
        in_group = block_mask(self.out_channels, self.in_channels, groups)
        self.gwc.weight.copy_(grouped_weight(kernel, groups))
        self.pwc.weight.copy_(centre(kernel).masked_fill(in_group, 0)[..., None, None])
        set_bias(self.gwc.bias, bias)
        outside = kernel[~in_group]
        return relative_error(outside.square().sum() - centre(kernel)[~in_group].square().sum(), kernel)

    def fold(self) -> nn.Module:
        """Return one ordinary convolution where channels are few; else a copy."""
        if not self._is_odd or not is_narrow(self.in_channels, self.out_channels):
            return super().fold()
        return sum_of_convolutions(dense(self.gwc), self.pwc).eval()

    @staticmethod
    def from_authors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the grouped convolution ``gc``; ``pwc`` keeps its name."""
        return rename_prefixes(state_dict, {"gc": "gwc"})
