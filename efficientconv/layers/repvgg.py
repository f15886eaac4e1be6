"""RepVGG's block: three branches in training, one convolution after.

Ding, Zhang, Ma, Han, Ding and Sun, "RepVGG: Making VGG-style ConvNets Great Again", CVPR 2021, arXiv:2101.03697,
sections 3.2 and 3.3; the layer is ``RepVGGBlock`` of the authors' code, without its ReLU and squeeze-excitation.

In the paper the ReLU follows at once. Here the host's batch norm, where it has one, stays in between, so that the layer
fits any host; after training it is one scale and shift more.

The paper's kernels are 3×3. The same holds for any odd kernel: the 1×1 branch and the identity are its centre.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from efficientconv.layers.approximation import centre
from efficientconv.layers.base import ConvVariant, PaddingMode, Size2, rename_prefixes
from efficientconv.layers.batch_norm import begin_as, folded
from efficientconv.layers.reparameterization import ConvBN, identity_convolution, sum_of_convolutions
from efficientconv.layers.repvgg_training import training_step


class RepVGGConv2d(ConvVariant):
    """Re-parameterised convolution with a 1×1 branch and, where the shape stays, an identity.

    ::

        x ─┬─ k×k ── BN ─┐
           ├─ 1×1 ── BN ─┤
           └──────── BN ─┴─ + ── y (o)          the last branch where i = o and the stride is 1

    Args:
        in_channels: i.
        out_channels: o.
        kernel_size: odd, in pixels.
        stride: of both convolutions, in pixels.
        padding: dilation·(kernel_size − 1)/2.
        dilation: in pixels.
        groups: of both convolutions.
        bias: accepted and without effect, since the output carries batch norms' shifts; ``self.bias`` is None.
        padding_mode: of the k×k convolution.
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
        self.dense = ConvBN(self._convolution(in_channels, out_channels, groups, False, **factory), **factory)
        pointwise = nn.Conv2d(in_channels, out_channels, 1, self.stride, groups=groups, bias=False, **factory)
        self.pointwise = ConvBN(pointwise, **factory)
        keeps_shape = in_channels == out_channels and self.stride == (1, 1)
        self.identity = nn.BatchNorm2d(in_channels, **factory) if keeps_shape else None
        self.register_parameter("bias", None)
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ⌈H/s⌉, ⌈W/s⌉)."""
        at_once = training_step(self, x)
        if at_once is not None:
            return at_once
        y = self.dense(x) + self.pointwise(x)
        return y if self.identity is None else y + self.identity(x).to(y.dtype)

    @torch.no_grad()
    def approximate(self, weight: Tensor, bias: Tensor | None = None) -> float:
        """Begin as the convolution itself: of all branches whose sum is its kernel, those of the least norm.

        Where several branches reach a tap, each takes the same part of it; the identity's is its batch norm's scale.
        """
        shares = torch.ones_like(weight[:1, :1])
        shares[..., self.kernel_size[0] // 2, self.kernel_size[1] // 2] = 2
        shares = shares.expand_as(weight).clone()
        if self.identity is not None:
            own = identity_convolution(self.identity, self.groups).weight.flatten(1) == 1  # (o, i/g)
            centre(shares)[own] = 3
            begin_as(self.identity)
            self.identity.weight.mul_(centre(weight / shares)[own])
        self.dense.conv.weight.copy_(weight / shares)
        self.pointwise.conv.weight.copy_(centre(weight / shares)[..., None, None])
        begin_as(self.dense.bn, shift=bias)
        begin_as(self.pointwise.bn)
        return 0.0

    def fold(self) -> nn.Conv2d:
        """Return the one convolution that computes the same in eval mode."""
        branches = [self.dense.fold(), self.pointwise.fold()]
        if self.identity is not None:
            branches.append(folded(identity_convolution(self.identity, self.groups), self.identity))
        return sum_of_convolutions(*branches).eval()

    @staticmethod
    def from_authors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the branches; a squeeze-excitation is not part of the layer."""
        names = {"rbr_dense": "dense", "rbr_1x1": "pointwise", "rbr_identity": "identity"}
        return rename_prefixes(state_dict, names)
