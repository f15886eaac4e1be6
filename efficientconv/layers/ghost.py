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
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efficientconv.layers.approximation import alternate, relative_error
from efficientconv.layers.base import ConvVariant, PaddingMode, Size2, rename_prefixes, require_whole
from efficientconv.layers.batch_norm import begin_as, folded
from efficientconv.layers.ghost_folded import FoldedGhost
from efficientconv.layers.ghost_native import inference, native_library, training_step
from efficientconv.layers.native_form import is_inference


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
        if not isinstance(self.bn1, nn.BatchNorm2d) and (native := native_library(self, x)):
            return inference(native, self, x) if is_inference(self, x) else training_step(native, self, x)
        intrinsic = self.bn1(self.primary(x))  # (N, a, H', W')
        ghosts = self.bn2(self.cheap(intrinsic))  # (N, a·(s − 1), H', W')
        return torch.cat((intrinsic, ghosts[:, : self.out_channels - intrinsic.shape[1]]), 1)

    @torch.no_grad()
    def approximate(self, weight: Tensor, bias: Tensor | None = None) -> float:
        """Begin near the kernel by alternating least squares between each primary filter and its cheap kernels.

        Away from the border a ghost's filter is the primary one convolved with a cheap kernel on the output's grid, at
        most k + stride·(cheap_kernel_size − 1) pixels high. A primary filter that serves its ghosts better is less
        itself: both count.
        """
        kernel = weight.double()
        intrinsic, ghosts = self.primary.out_channels, self.out_channels - self.primary.out_channels
        parents = torch.arange(ghosts) // (self.cheap.out_channels // intrinsic)
        shifts = self._shifts()  # (L, c·c, k·k): where a cheap tap puts each primary tap
        own = shifts[:, shifts.shape[1] // 2]  # (L, k·k)
        wanted = torch.einsum("lm,oim->oil", own, kernel.flatten(2))  # (o, i, L)
        primary, cheap = kernel[:intrinsic].flatten(2), kernel.new_empty(0)

        def step() -> Tensor:
            nonlocal primary, cheap
            moved = torch.einsum("lem,gim->gile", shifts, primary[parents]).flatten(1, 2)  # (g, i·L, c·c)
            gram = torch.linalg.pinv(moved.mT @ moved, hermitian=True)  # (g, c·c, c·c)
            cheap = (gram @ (moved.mT @ wanted[intrinsic:].flatten(1).unsqueeze(2))).squeeze(2)  # (g, c·c)
            spread = torch.einsum("lem,ge->glm", shifts, cheap)  # (g, L, k·k)
            normal = torch.eye(own.shape[1], dtype=kernel.dtype).repeat(intrinsic, 1, 1)
            normal.index_add_(0, parents, spread.mT @ spread)
            pull = wanted[:intrinsic] @ own  # (a, i, k·k)
            pull = pull.index_add(0, parents, wanted[intrinsic:] @ spread)
            primary = torch.linalg.solve(normal, pull.mT).mT
            missed = wanted[intrinsic:] - primary[parents] @ spread.mT
            return (kernel[:intrinsic].flatten(2) - primary).square().sum() + missed.square().sum()

        squared_error = alternate(step)
        self.primary.weight.copy_(primary.view_as(self.primary.weight))
        self.cheap.weight[:ghosts].copy_(cheap.view_as(self.cheap.weight[:ghosts]))
        self._set_biases(bias, cheap.sum(1), parents)
        return relative_error(squared_error, kernel)

    def _shifts(self) -> Tensor:
        """Return which pixel each pair of a cheap and a primary tap reads, (pixels, c·c, k·k), with ones there."""
        axes = []
        for taps, dilation, stride in zip(self.kernel_size, self.dilation, self.stride, strict=True):
            places = stride * torch.arange(self.cheap.kernel_size[0])[:, None] + dilation * torch.arange(taps)
            axes.append(F.one_hot(places).movedim(-1, 0).double())  # (pixels, c, k)
        rows, columns = axes
        return torch.einsum("aem,bfn->abefmn", rows, columns).flatten(4, 5).flatten(2, 3).flatten(0, 1)

    def _set_biases(self, bias: Tensor | None, cheap_sums: Tensor, parents: Tensor) -> None:
        """Give each output its bias; a ghost's comes on top of what its cheap kernel makes of the primary one."""
        intrinsic = self.primary.out_channels
        bias = torch.zeros(self.out_channels, dtype=cheap_sums.dtype) if bias is None else bias.to(cheap_sums)
        own = torch.zeros(self.cheap.out_channels, dtype=cheap_sums.dtype)
        own[: len(parents)] = bias[intrinsic:] - cheap_sums * bias[parents]
        for conv, norm, shift in ((self.primary, self.bn1, bias[:intrinsic]), (self.cheap, self.bn2, own)):
            begin_as(norm, shift=shift)
            if conv.bias is not None:
                conv.bias.copy_(shift)

    def fold(self) -> nn.Module:
        """Return a module that can take over a norm behind it."""
        return FoldedGhost(cast(GhostConv2d, super().fold())).eval()

    def _fold_batch_norms(self) -> None:
        self.primary, self.bn1 = folded(self.primary, self.bn1), nn.Identity()
        self.cheap, self.bn2 = folded(self.cheap, self.bn2), nn.Identity()

    @staticmethod
    def from_authors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Name the convolutions and norms inside the authors' ``primary_conv`` and ``cheap_operation``."""
        primary = {"primary_conv.0": "primary", "primary_conv.1": "bn1"}
        return rename_prefixes(state_dict, {**primary, "cheap_operation.0": "cheap", "cheap_operation.1": "bn2"})
