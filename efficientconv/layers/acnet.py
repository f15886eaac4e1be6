"""ACNet's asymmetric convolution block: a cross of two thin kernels strengthens the square one in training.

Ding, Guo, Ding and Han, "ACNet: Strengthening the Kernel Skeletons for Powerful CNN via Asymmetric Convolution Blocks",
ICCV 2019, arXiv:1908.03930, section 3.3 and figure 3; the layer is ``ACBlock`` of the authors' code.

The block takes the place of a convolution and the batch norm behind it, and the ReLU follows. Here the host's batch
norm, where it has one, stays between, so that the layer fits any host.

The authors' code also knows paddings other than the kernel's half, for which it pads or crops the thin branches. Here
they are refused, as in every layer with side branches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from efficientconv.layers.base import ConvVariant, PaddingMode, Size2, rename_prefixes
from efficientconv.layers.batch_norm import begin_as
from efficientconv.layers.reparameterization import ConvBN, sum_of_convolutions


class ACConv2d(ConvVariant):
    """Asymmetric convolution block.

    ::

        x ─┬─ k×k ── BN ─┐
           ├─ k×1 ── BN ─┤
           └─ 1×k ── BN ─┴─ + ── y (o)

    Args:
        in_channels: i.
        out_channels: o.
        kernel_size: odd, in pixels.
        stride: in pixels.
        padding: dilation·(kernel_size − 1)/2.
        dilation: in pixels.
        groups: of all three.
        bias: accepted and without effect, since the output carries batch norms' shifts; ``self.bias`` is None.
        padding_mode: of all three.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: ``kernel_size`` is even, ``padding`` is another, or the geometry is none.

    ``fold()`` returns one ``nn.Conv2d`` with a bias.
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
        self._require_odd_kernel()
        self._require_same_padding()
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        (rows, columns), (top, left) = self.kernel_size, self.padding
        self.square = self._branch(self.kernel_size, self.padding, **factory)
        self.vertical = self._branch((rows, 1), (top, 0), **factory)
        self.horizontal = self._branch((1, columns), (0, left), **factory)
        self.register_parameter("bias", None)
        self.reset_parameters()

    def _branch(self, kernel_size: tuple[int, int], padding: tuple[int, int], **factory: Any) -> ConvBN:
        conv = nn.Conv2d(
            self.in_channels,
            self.out_channels,
            kernel_size,
            self.stride,
            padding,
            self.dilation,
            self.groups,
            bias=False,
            padding_mode=self.padding_mode,
            **factory,
        )
        return ConvBN(conv, **factory)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ⌈H/s⌉, ⌈W/s⌉)."""
        return self.square(x) + self.vertical(x) + self.horizontal(x)

    @torch.no_grad()
    def approximate(self, weight: Tensor, bias: Tensor | None = None) -> float:
        """Begin as the convolution itself: of all branches whose sum is its kernel, those of the least norm.

        Where several branches reach a tap, each takes the same part of it.
        """
        row, column = (size // 2 for size in self.kernel_size)
        reached = torch.ones(self.kernel_size).to(weight)  # how many branches reach each tap
        reached[:, column] += 1
        reached[row, :] += 1
        parts = weight / reached
        branches = {
            self.square: parts,
            self.vertical: parts[..., column, None],
            self.horizontal: parts[:, :, row, None],
        }
        for branch, part in branches.items():
            branch.conv.weight.copy_(part)
            begin_as(branch.bn)
        if bias is not None:
            self.square.bn.bias.copy_(bias)
        return 0.0

    def fold(self) -> nn.Conv2d:
        """Return the one convolution that computes the same in eval mode."""
        return sum_of_convolutions(self.square.fold(), self.vertical.fold(), self.horizontal.fold()).eval()

    @staticmethod
    def from_authors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Put each branch's convolution and batch norm together."""
        branches = {"square": "square", "ver": "vertical", "hor": "horizontal"}
        names = {f"{old}_{part}": f"{new}.{part}" for old, new in branches.items() for part in ("conv", "bn")}
        return rename_prefixes(state_dict, names)
