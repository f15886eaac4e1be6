"""HetConv: each filter has k×k kernels on a part of the channels and 1×1 kernels on the others.

Singh, Verma, Rai and Namboodiri, "HetConv: Heterogeneous Kernel-Based Convolutions for Deep CNNs", CVPR 2019,
arXiv:1903.04120, section 3.

The paper and the authors' code differ, and this file keeps both:

- The paper shifts the k×k kernels by one channel from each filter to the next: filter j has them on the channels c
  with (c − j) mod P = 0. That is the default here. Only the kernels that exist are parameters, so that neither weight
  decay nor momentum can touch the others; they are put together to one dense kernel, which is exact, but runs at the
  cost of a dense convolution. What the paper counts is ``effective_macs_ratio`` of it.
- The authors' code, and other open code, sums a convolution of P groups and a pointwise one over all channels
  (``approximate=True``). The pointwise weights of a filter's own group repeat the k×k kernels' centres, unless they
  are held at zero, as the authors' training script does: i·o/P weights more than in the paper, for the same
  functions up to the order of the channels. Only this form loads the authors' weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efficientconv.layers.approximation import block_mask, centre, relative_error, resized, set_bias
from efficientconv.layers.base import ConvVariant, PaddingMode, Size2, require_divisor
from efficientconv.layers.folded_form import is_narrow
from efficientconv.layers.reparameterization import dense_kernel


class HetConv2d(ConvVariant):
    """Heterogeneous convolution.

    ::

        filter j, channel c:   k×k kernel where (c − j) mod P = 0,   1×1 at the centre elsewhere

    i·o·(k²/P + 1 − 1/P) weights in place of k²·i·o.

    Args:
        in_channels: i, a multiple of ``p``.
        out_channels: o; with ``approximate`` a multiple of ``p``.
        kernel_size: k, odd, in pixels.
        stride: in pixels.
        padding: in pixels; with ``approximate`` dilation·(kernel_size − 1)/2.
        dilation: of the k×k kernels, in pixels.
        groups: 1.
        bias: whether there is one.
        padding_mode: of the k×k kernels.
        device: of the parameters.
        dtype: of the parameters.
        p: P, one channel in so many has a k×k kernel; at least 2.
        approximate: k×k kernels in P groups of neighbouring channels, and 1×1 kernels on all channels.

    Raises:
        ValueError: ``p`` does not divide i, or with ``approximate`` o, or is below 2, ``kernel_size`` is even,
            ``padding`` is another, ``groups`` is not 1, or the geometry is none.
    """

    bias: nn.Parameter | None

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
        p: int = 4,
        approximate: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode)
        self._require_dense()
        self._require_odd_kernel()
        numbers = {"in_channels": in_channels}
        if approximate:
            self._require_same_padding()
            numbers["out_channels"] = out_channels
        require_divisor("p", p, least=2, **numbers)
        self.p = p
        self.is_grouped = approximate
        large, small = in_channels // p, in_channels if approximate else in_channels - in_channels // p
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.weight_kxk = nn.Parameter(torch.empty(out_channels, large, *self.kernel_size, **factory))
        self.weight_1x1 = nn.Parameter(torch.empty(out_channels, small, 1, 1, **factory))
        self.bias = nn.Parameter(torch.empty(out_channels, **factory)) if bias else None
        self.reset_parameters()

    @property
    def effective_macs_ratio(self) -> float:
        """Multiply-adds of the kernels that exist, relative to those of the convolution that runs."""
        if self.is_grouped:
            return 1.0
        return 1 / self.p + (1 - 1 / self.p) / (self.kernel_size[0] * self.kernel_size[1])

    def reset_parameters(self) -> None:
        """Kaiming normal fan-out for both kinds of kernels and zero for the bias, as the authors' model does."""
        for weight in (self.weight_kxk, self.weight_1x1):
            nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W')."""
        if not self.is_grouped:
            return self._convolve(x, self._dense_kernel(), self.bias, self.stride)
        grouped = self._convolve(x, self.weight_kxk, self.bias, self.stride, groups=self.p)
        return grouped + F.conv2d(x, self.weight_1x1, stride=self.stride)

    def _dense_kernel(self) -> Tensor:
        """Put each kernel in its place: (o, i/P, k, k) and (o, i − i/P, 1, 1) → (o, i, k, k)."""
        centred = resized(self.weight_1x1, self.kernel_size).unflatten(1, (-1, self.p - 1))
        kernels = torch.cat(
            (self.weight_kxk.unsqueeze(2), centred), 2
        )  # (o, i/P, P, k, k): of P channels the k×k first
        channel = torch.arange(self.p, device=kernels.device)
        large = torch.arange(self.out_channels, device=kernels.device).unsqueeze(1) % self.p  # (o, 1)
        order = torch.where(channel == large, 0, channel + (channel < large))  # (o, P)
        return kernels.gather(2, order.view(-1, 1, self.p, 1, 1).expand_as(kernels)).flatten(1, 2)

    def _sum_of_kernels(self) -> Tensor:
        """Add the groups' kernels and the 1×1 ones, (o, i/P, k, k) and (o, i, 1, 1) → (o, i, k, k)."""
        return dense_kernel(self.weight_kxk, self.p) + resized(self.weight_1x1, self.kernel_size)

    @torch.no_grad()
    def approximate(self, weight: Tensor, bias: Tensor | None = None) -> float:
        """Begin with the kernels that exist, and with the centres of the others: a projection, the nearest there is.

        With ``approximate=True`` the pointwise weights of a filter's own group are zero, as in the authors' script.
        """
        kernel = weight.double()
        if self.is_grouped:
            is_large = block_mask(self.out_channels, self.in_channels, self.p)
            small = centre(kernel).masked_fill(is_large, 0)
        else:
            is_large = torch.arange(self.in_channels) % self.p == torch.arange(self.out_channels)[:, None] % self.p
            small = centre(kernel)[~is_large]
        self.weight_kxk.copy_(kernel[is_large].view_as(self.weight_kxk))
        self.weight_1x1.copy_(small.view_as(self.weight_1x1))
        set_bias(self.bias, bias)
        lost = kernel.square().sum() - kernel[is_large].square().sum() - centre(kernel)[~is_large].square().sum()
        return relative_error(lost, kernel)

    def fold(self) -> nn.Module:
        """Return one ordinary convolution with zeros around the 1×1 kernels; a wide layer's groups stay, in a copy."""
        if self.is_grouped and not is_narrow(self.in_channels, self.out_channels):
            return super().fold()
        kernel = self._sum_of_kernels() if self.is_grouped else self._dense_kernel()
        return self.convolution_of(kernel, self.bias).eval()

    @staticmethod
    def from_authors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the weights of the two convolutions, for ``approximate=True``."""
        names = {"gwc.weight": "weight_kxk", "pwc.weight": "weight_1x1"}
        return {names.get(name, name): value for name, value in state_dict.items()}

    def extra_repr(self) -> str:
        """Show the geometry as ``nn.Conv2d`` does, and p."""
        approximate = ", approximate=True" if self.is_grouped else ""
        return f"{super().extra_repr()}, bias={self.bias is not None}, p={self.p}{approximate}"
