"""BSConv: blueprint separable convolutions, pointwise first, depthwise after.

Haase and Amthor, "Rethinking Depthwise Separable Convolutions: How Intra-Kernel Correlations Lead to Improved
MobileNets", CVPR 2020, arXiv:2003.13549, section 3 (BSConv-U and BSConv-S) and section 4 (MobileNets).

The k×k kernels of a trained filter are nearly multiples of one another. So a filter is one k×k blueprint times one
weight for each input channel: a 1×1 convolution followed by a depthwise one.

The authors' code and the paper differ, and this file keeps both:

- The paper has no batch norm inside; the code adds one after each pointwise convolution by ``with_bn=True``, because it
  steadies the training of ResNets and WRNs with BSConv-S.
- The penalty is the Frobenius norm itself, not its square, of the first pointwise weight alone.

The code's ``bn_kwargs`` are left out, and ``groups`` other than 1, which it does not know, is refused here.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efficientconv.layers.approximation import alternate, best_rank_one, relative_error, set_bias
from efficientconv.layers.base import ConvVariant, PaddingMode, Size2, require_whole
from efficientconv.layers.batch_norm import begin_as, folded
from efficientconv.layers.bsconv_folded import FoldedBSConv, are_convolutions
from efficientconv.layers.bsconv_native import WIDEST, native_library, native_training_step
from efficientconv.layers.bsconv_training import is_for, training_step


class _BSConv(ConvVariant):
    """What both have in common: they end in the depthwise convolution ``dw``, which has the geometry and the bias."""

    dw: nn.Conv2d

    def fold(self) -> nn.Module:
        """Return the convolutions as one form where channels are few; else a copy with folded batch norms.

        A layer to which somebody has added something, such as a hook, stays a layer.
        """
        copied = super().fold()
        is_drawn_here = type(self).forward in (BSConvU.forward, BSConvS.forward)
        is_narrow = max(self.in_channels, self.out_channels) <= WIDEST
        return FoldedBSConv(copied).eval() if is_drawn_here and is_narrow and are_convolutions(copied) else copied

    @property
    def bias(self) -> Tensor | None:
        """The depthwise convolution's bias, (out_channels,), or None."""
        return self.dw.bias

    def _set_depthwise(self, blueprints: Tensor, bias: Tensor | None) -> None:
        """Set the depthwise convolution: blueprints (o, k·k) and bias (o,)."""
        self.dw.weight.copy_(blueprints.view_as(self.dw.weight))
        set_bias(self.dw.bias, bias)


class BSConvU(_BSConv):
    """Unconstrained blueprint separable convolution.

    ::

        x (i) ── 1×1 ── [BN] ── k×k depthwise ── y (o)

    i·o + k²·o weights in place of k²·i·o.

    Args:
        in_channels: i.
        out_channels: o.
        kernel_size: of the depthwise convolution, in pixels.
        stride: of the depthwise convolution; the 1×1 sees the whole resolution.
        padding: of the depthwise convolution, in pixels.
        dilation: of the depthwise convolution, in pixels.
        groups: 1.
        bias: whether the depthwise convolution has one; the 1×1 has none.
        padding_mode: of the depthwise convolution.
        device: of the parameters.
        dtype: of the parameters.
        with_bn: a batch norm between the two.

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
        *,
        with_bn: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode)
        self._require_dense()
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.pw = nn.Conv2d(in_channels, out_channels, 1, bias=False, **factory)
        self.bn = nn.BatchNorm2d(out_channels, **factory) if with_bn else nn.Identity()
        self.dw = self._convolution(out_channels, out_channels, out_channels, bias, **factory)
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W')."""
        return self.dw(self.bn(self.pw(x)))

    @torch.no_grad()
    def approximate(self, weight: Tensor, bias: Tensor | None = None) -> float:
        """Begin with the best blueprint of each filter: the best rank-1 approximation of its (i, k·k) matrix, by SVD.

        The best there is: each filter's kernels are nearest to multiples of one (section 3 of the paper measures this).
        """
        kernel = weight.double()
        blueprints, factors = best_rank_one(kernel)
        squared_error = kernel.square().sum() - factors.square().sum()
        size = factors.norm(dim=1, keepdim=True).sqrt()  # the same for both parts
        self._set_depthwise(blueprints * size, bias)
        self.pw.weight.copy_((factors / size.clamp(min=torch.finfo(size.dtype).tiny))[..., None, None])
        begin_as(self.bn)
        return relative_error(squared_error, kernel)

    def _fold_batch_norms(self) -> None:
        self.pw, self.bn = folded(self.pw, self.bn), nn.Identity()


class BSConvS(_BSConv):
    """Subspace blueprint separable convolution: BSConv-U whose 1×1 weight is a product of two thin ones.

    ::

        x (i) ── 1×1 ── [BN] ── (m) ── 1×1 ── [BN] ── k×k depthwise ── y (o)

        m = min(i, max(min_mid_channels, ⌈p·i⌉))

    i·m + m·o + k²·o weights in place of k²·i·o. The rows of the first 1×1 weight are pushed towards orthonormal ones by
    ``regularization_loss``.

    Args:
        in_channels: i.
        out_channels: o.
        kernel_size: of the depthwise convolution, in pixels.
        stride: of the depthwise convolution; the 1×1s see the whole resolution.
        padding: of the depthwise convolution, in pixels.
        dilation: of the depthwise convolution, in pixels.
        groups: 1.
        bias: whether the depthwise convolution has one; the 1×1s have none.
        padding_mode: of the depthwise convolution.
        device: of the parameters.
        dtype: of the parameters.
        p: width of the subspace relative to i, from 0 to 1.
        min_mid_channels: the least width of the subspace, where i allows.
        with_bn: a batch norm after each 1×1.

    Raises:
        ValueError: ``groups`` is not 1, ``p`` lies outside [0, 1], ``min_mid_channels`` is below 1, or the geometry is
            none.
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
        p: float = 0.25,
        min_mid_channels: int = 4,
        with_bn: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode)
        self._require_dense()
        if not 0 <= p <= 1:
            raise ValueError(f"p={p}: must lie between 0 and 1; the paper uses 0.25")
        require_whole("min_mid_channels", min_mid_channels)
        self.mid_channels = min(in_channels, max(min_mid_channels, math.ceil(p * in_channels)))
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.pw1 = nn.Conv2d(in_channels, self.mid_channels, 1, bias=False, **factory)
        self.bn1 = nn.BatchNorm2d(self.mid_channels, **factory) if with_bn else nn.Identity()
        self.pw2 = nn.Conv2d(self.mid_channels, out_channels, 1, bias=False, **factory)
        self.bn2 = nn.BatchNorm2d(out_channels, **factory) if with_bn else nn.Identity()
        self.dw = self._convolution(out_channels, out_channels, out_channels, bias, **factory)
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W')."""
        if native := native_library(self, x):
            return native_training_step(native, self, x)
        if is_for(self, x):
            return self.dw(training_step(self, x))
        x = self.bn1(self.pw1(x))  # (N, m, H, W)
        return self.dw(self.bn2(self.pw2(x)))

    def regularization_loss(self) -> Tensor:
        """Return ‖W·Wᵀ − I‖_F of the first 1×1 weight W, (m, i)."""
        return _distance_from_orthonormal(self.pw1.weight)

    @torch.no_grad()
    def approximate(self, weight: Tensor, bias: Tensor | None = None) -> float:
        """Begin in the subspace that serves all filters best, by alternating least squares from BSConv-U's blueprints.

        With blueprints d_o of length 1 the squared error is ‖Q − W₂·W₁‖² and a constant, where Q_o = K_o·d_o, (i): the
        best product of rank m is the truncated SVD of Q (Eckart and Young). With the product, each d_o is a projection.
        W₁ has orthonormal rows, as the penalty wants them.
        """
        kernel = weight.double()
        filters = kernel.flatten(2)  # (o, i, k·k)
        blueprints, _ = best_rank_one(kernel)
        rows = products = torch.empty(0)

        def step() -> Tensor:
            nonlocal blueprints, rows, products
            wanted = torch.einsum("oim,om->oi", filters, blueprints)
            rows = torch.linalg.svd(wanted, full_matrices=False).Vh[: self.mid_channels]
            rows = torch.cat((rows, rows.new_zeros(self.mid_channels - len(rows), rows.shape[1])))
            products = wanted @ rows.T  # (o, m)
            blueprints = F.normalize(torch.einsum("oim,oi->om", filters, products @ rows), dim=1)
            kept = torch.einsum("oim,om,oi->o", filters, blueprints, F.normalize(products @ rows, dim=1))
            return kernel.square().sum() - kept.square().sum()

        squared_error = alternate(step)
        scale = torch.einsum("oim,om,oi->o", filters, blueprints, products @ rows)
        scale = scale / (products @ rows).square().sum(1).clamp(min=torch.finfo(scale.dtype).tiny)
        self._set_depthwise(blueprints, bias)
        self.pw1.weight.copy_(rows[..., None, None])
        self.pw2.weight.copy_((products * scale[:, None])[..., None, None])
        begin_as(self.bn1)
        begin_as(self.bn2)
        return relative_error(squared_error, kernel)

    def _fold_batch_norms(self) -> None:
        self.pw1, self.bn1 = folded(self.pw1, self.bn1), nn.Identity()
        self.pw2, self.bn2 = folded(self.pw2, self.bn2), nn.Identity()


@ConvVariant.register
class OrthonormalConv2d(nn.Conv2d):
    """A 1×1 ``nn.Conv2d`` with ‖W·Wᵀ − I‖_F as its ``regularization_loss``, and nothing else new.

    It stands for the projection of MobileNetV2, MobileNetV3 and EfficientNet, where BSConv-S needs no other layer: the
    expansion of one block, the projection of the block before and the depthwise convolution already have its form
    (paper, section 4), so only the penalty is new. Keys, weights and outputs are those of the plain convolution.

    Args:
        in_channels: i.
        out_channels: o.
        kernel_size: 1.
        stride: as ``nn.Conv2d``'s.
        padding: as ``nn.Conv2d``'s.
        dilation: as ``nn.Conv2d``'s.
        groups: 1.
        bias: whether there is one.
        padding_mode: as ``nn.Conv2d``'s.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: ``kernel_size`` or ``groups`` is not 1.
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
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype
        )
        if self.kernel_size != (1, 1):
            raise ValueError(f"kernel_size={self.kernel_size}: OrthonormalConv2d is a 1×1 convolution; 1 would fit")
        if groups != 1:
            raise ValueError(f"groups={groups}: OrthonormalConv2d is defined for groups=1 only")

    def regularization_loss(self) -> Tensor:
        """Return ‖W·Wᵀ − I‖_F of the weight W, (out_channels, in_channels)."""
        return _distance_from_orthonormal(self.weight)

    def fold(self) -> nn.Conv2d:
        """Return a copy: there is nothing to fold."""
        return copy.deepcopy(self).eval()

    @staticmethod
    def from_authors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the state unchanged: the authors keep an ``nn.Conv2d``."""
        return dict(state_dict)


def _distance_from_orthonormal(weight: Tensor) -> Tensor:
    """Return ‖W·Wᵀ − I‖_F for W of (rows, columns, 1, 1), in float32 at least: under bf16 the unit diagonal drowns."""
    with nullcontext() if weight.is_meta else torch.autocast(weight.device.type, enabled=False):  # meta has none
        rows = weight.flatten(1).to(torch.promote_types(weight.dtype, torch.float32))
        gram = rows @ rows.T
        return torch.linalg.matrix_norm(gram - torch.eye(len(rows), device=gram.device, dtype=gram.dtype))
