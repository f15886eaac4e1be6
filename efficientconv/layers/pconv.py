"""PConv: only the first channels are convolved, the others pass.

Chen, Kao, He, Zhuo, Wen, Lee and Chan, "Run, Don't Walk: Chasing Higher FLOPS for Faster Neural Networks", CVPR 2023,
arXiv:2303.03667, section 3.2; the layer is ``Partial_conv3`` of the authors' FasterNet. (NVIDIA's partial convolution,
for images with holes, is another layer.)

It saves memory access as well as MACs, (1/n_div)² of the convolution's, but mixes nothing into the channels that pass:
in FasterNet a 1×1 convolution over all of them follows directly.

The authors' code knows 3×3 kernels without bias; other odd kernels, dilations and a bias of the convolved channels are
evident. For inference it writes into a clone of the input instead of concatenating, which gives the same output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from efficientconv.layers.approximation import relative_error, set_bias
from efficientconv.layers.base import ConvVariant, PaddingMode, Size2, rename_prefixes, require_whole
from efficientconv.layers.pconv_folded import FoldedPConv


class PConv2d(ConvVariant):
    """Partial convolution.

    ::

        x ─┬─ first a = ⌊i/n_div⌋ ── k×k (a) ─┐
           └─ other i − a ────────────────────┴─ concat ── y (i)

    Args:
        in_channels: i.
        out_channels: i, since channels pass.
        kernel_size: of the convolution, in pixels.
        stride: 1, since channels pass.
        padding: dilation·(kernel_size − 1)/2.
        dilation: of the convolution, in pixels.
        groups: 1.
        bias: whether the convolution has one, (a,); the channels that pass have none.
        padding_mode: of the convolution.
        device: of the parameters.
        dtype: of the parameters.
        n_div: one channel in so many is convolved; the paper's 4.

    Raises:
        ValueError: in and out differ, ``stride`` or ``groups`` is not 1, ``n_div`` leaves no channel, ``padding`` is
            another, or the geometry is none.
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
        n_div: int = 4,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode)
        self._require_dense()
        self._require_stride_1()
        self._require_same_padding()
        self._check_widths(n_div)
        convolved = in_channels // n_div
        self.split = (convolved, in_channels - convolved)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.conv = self._convolution(convolved, convolved, 1, bias, **factory)
        self.reset_parameters()

    def _check_widths(self, n_div: int) -> None:
        require_whole("n_div", n_div)
        if self.in_channels != self.out_channels:
            raise ValueError(
                f"out_channels={self.out_channels}: PConv2d hands channels through, so that in_channels and "
                f"out_channels must be equal; {self.in_channels} would fit"
            )
        if n_div > self.in_channels:
            raise ValueError(
                f"n_div={n_div}: leaves none of in_channels={self.in_channels} to convolve; "
                f"at most {self.in_channels} would fit"
            )

    @property
    def bias(self) -> Tensor | None:
        """The convolution's bias, (⌊in_channels/n_div⌋,), or None."""
        return self.conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to the same shape."""
        convolved, passed = x.split(self.split, 1)
        y = self.conv(convolved)
        return torch.cat((y, passed.to(y.dtype)), 1)  # under autocast the convolution's precision is the lower one

    @torch.no_grad()
    def fold(self) -> nn.Module:
        """Return a form that takes the norm behind it over."""
        return FoldedPConv(self).eval()

    @torch.no_grad()
    def approximate(self, weight: Tensor, bias: Tensor | None = None) -> float:
        """Begin with the kernels among the convolved channels: the nearest there is, though far where the others mix.

        Channels that pass have the identity for a kernel, whatever the convolution's was, and no bias.
        """
        kernel, convolved = weight.double(), self.split[0]
        nearest = torch.zeros_like(kernel)
        nn.init.dirac_(nearest)
        nearest[:convolved] = 0
        nearest[:convolved, :convolved] = kernel[:convolved, :convolved]
        self.conv.weight.copy_(nearest[:convolved, :convolved])
        set_bias(self.conv.bias, None if bias is None else bias[:convolved])
        return relative_error((kernel - nearest).square().sum(), kernel)

    @staticmethod
    def from_authors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the convolution, ``partial_conv3``."""
        return rename_prefixes(state_dict, {"partial_conv3": "conv"})
