"""BDRConv for inference: one dense convolution for the intrinsic and the diverse channels.

The second half of the layer's input is expanded by a 1×1, scaled, shifted and convolved in m groups: that is one k×k
kernel over all of the pooled input. At stride 1, where nothing is pooled, the base branch is a part of its first rows:
an ordinary convolution of the layer's widths stands for five operators and two concatenations. It has more
multiply-adds than the layer, and where channels are few it is faster all the same, see ``DENSE_WIDTH``.

The shift of the norm in front of the k×k convolution does not reach the padding's zeros: what the kernel makes of it
depends on the place at the border, and is the same for every image.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efficientconv.layers.approximation import resized
from efficientconv.layers.batch_norm import rescaled, scale_and_shift
from efficientconv.layers.bdrconv_native import Operands, inference, native_folded_library
from efficientconv.layers.border import unfolded_ones
from efficientconv.layers.cpu_forms import runs_in_cpu_form
from efficientconv.layers.ending import Ending
from efficientconv.layers.folded_form import FoldedForm
from efficientconv.layers.reparameterization import dense_kernel, with_zeros_in_front
from efficientconv.native import Library

if TYPE_CHECKING:
    from efficientconv.layers.bdrconv import BDRConv2d


class FoldedBDRConv(FoldedForm):
    """``SE(k×k(pooled x) + 1×1(x) + border) + 1×1(pooled x)``; at stride 1 the first 1×1 lies in the k×k.

    Where the layer may be one operator in C++, it is, with the multiply-adds that its paper draws.

    Args:
        layer: with its batch norms; it stays as it is.
        folded: the same with its batch norms folded.
    """

    @torch.no_grad()
    def __init__(self, layer: BDRConv2d, folded: BDRConv2d) -> None:
        super().__init__()
        self.origin = (folded, Operands.of(folded))  # in a tuple, so that its parameters are not this module's
        scale, shift = scale_and_shift(layer.bn2)
        diverse, shifts = (kernel * scale.view(-1, 1, 1, 1) for kernel in _diverse_and_shifts(layer))
        main = _widened(layer.main_conv, layer)
        main.weight.mul_(scale.view(-1, 1, 1, 1))
        fits_inside = _fits_inside(layer)
        kernel = diverse + resized(main.weight, layer.kernel_size) if fits_inside else diverse
        self.conv = layer.convolution_of(kernel.to(shift), shift, stride=1)
        self.main = None if fits_inside else main
        self.shifts = nn.Parameter(shifts.to(shift))  # of the first norm, by the taps, (o, 1, k, k)
        self.expand = with_zeros_in_front(layer.expand, layer.in_channels)
        self.se, self.pool = copy.deepcopy(layer.se), layer.pool

    def _native(self, x: Tensor) -> Library | None:
        return native_folded_library(self, x)

    def _in_cpp(self, native: Library, x: Tensor, ending: Ending) -> Tensor:
        layer, operands = self.origin
        return inference(native, layer, operands, x, ending)

    def _by_operators(self, x: Tensor) -> Tensor:
        pooled = self.pool(x)
        y = self.conv(pooled).add_(self._border(pooled))
        if self.main is not None:
            y = y.add_(self.main(x))
        weights = self.se.weights(y.mean((2, 3)))
        if self.scale is not None:
            weights = weights * self.scale
        return self.expand(pooled).addcmul_(y, weights[:, :, None, None])  # in place: twice as fast

    def _border(self, x: Tensor) -> Tensor:
        """Return what the kernels make of the shift at each place, (1, o, H, W)."""
        conv = self.conv
        if conv.padding_mode != "zeros" or not runs_in_cpu_form(x):
            return conv._conv_forward(torch.ones_like(x[:1, :1]), self.shifts, None)
        on_image = unfolded_ones(*x.shape[2:], conv.kernel_size, conv.dilation, conv.padding, x.dtype)  # (k², H·W)
        return (on_image.t() @ self.shifts.flatten(1).t()).t().unflatten(1, x.shape[2:]).unsqueeze(0)

    def _rescale(self, scale: Tensor, shift: Tensor | None) -> None:
        self.expand = rescaled(self.expand, scale, shift)
        if self.origin is not None:
            layer, operands = self.origin
            self.origin = (layer, operands.rescaled(scale, shift))


def _diverse_and_shifts(layer: BDRConv2d) -> tuple[Tensor, Tensor]:
    """Return what makes the diverse channels, (o, i, k, k), and the first norm's shift in it, by taps, (o, 1, k, k)."""
    main, base = layer.split[0], layer.main_conv.out_channels
    scale, shift = (value.double() for value in scale_and_shift(layer.bn1))
    diversity = dense_kernel(layer.diversity_conv.weight.double(), main)  # (o − a, m + o, k, k)
    scaled = diversity * scale.view(-1, 1, 1)
    expand = layer.expand.weight.double().flatten(1)  # (o, i − m)
    diverse = torch.cat((scaled[:, :main], torch.einsum("dekl,ei->dikl", scaled[:, main:], expand)), 1)
    shifts = torch.einsum("dekl,e->dkl", diversity, shift).unsqueeze(1)
    below = (0, 0, 0, 0, 0, 0, base, 0)
    return F.pad(diverse, below), F.pad(shifts, below)


def _widened(main: nn.Conv2d, layer: BDRConv2d) -> nn.Conv2d:
    """Return the base branch as a convolution of the layer's widths, with zeros."""
    result = copy.deepcopy(main)
    result.in_channels, result.out_channels = layer.in_channels, layer.out_channels
    missing = (0, layer.in_channels - main.in_channels, 0, layer.out_channels - main.out_channels)
    result.weight = nn.Parameter(F.pad(main.weight.detach(), (0, 0, 0, 0, *missing)))
    return result


def _fits_inside(layer: BDRConv2d) -> bool:
    """Tell whether the base branch's kernel can be the middle of the k×k."""
    sizes = zip(layer.main_conv.kernel_size, layer.kernel_size, strict=True)
    return layer.stride == (1, 1) and all(a <= b and b % 2 for a, b in sizes)
