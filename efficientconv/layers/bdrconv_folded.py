"""BDRConv for inference: one dense convolution for the intrinsic and the diverse channels.

The second half of the layer's input is expanded by a 1×1, scaled, shifted and convolved in m groups. At stride 1 that
is one k×k kernel over all of the input, and the base branch a part of its first rows: an ordinary convolution of the
layer's widths stands for five operators and two concatenations. It has more multiply-adds than the layer, and where
channels are few it is faster all the same, see ``DENSE_WIDTH``.

The shift of the norm in front of the k×k convolution does not reach the padding's zeros: what the kernel makes of it
depends on the place at the border, and is the same for every image.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efficientconv.layers.batch_norm import rescaled, scale_and_shift
from efficientconv.layers.cpu_forms import pointwise
from efficientconv.layers.folded_form import FoldedForm, is_narrow
from efficientconv.layers.reparameterization import dense_kernel, enlarged

if TYPE_CHECKING:
    from efficientconv.layers.bdrconv import BDRConv2d


def becomes_dense(layer: BDRConv2d) -> bool:
    """Tell whether ``FoldedBDRConv`` can stand for ``layer``, and is faster than its parts."""
    main, diversity = layer.main_conv, layer.diversity_conv
    return (
        is_narrow(layer.in_channels, layer.out_channels)
        and layer.stride == (1, 1)
        and all(k % 2 for k in layer.kernel_size)
        and all(small <= large for small, large in zip(main.kernel_size, diversity.kernel_size, strict=True))
    )


class FoldedBDRConv(FoldedForm):
    """``SE(k×k(x) + border) + 1×1(second half of x)``.

    Args:
        layer: with its batch norms, at stride 1; it stays as it is.
    """

    @torch.no_grad()
    def __init__(self, layer: BDRConv2d) -> None:
        super().__init__()
        kernel, shifts = _kernel_and_shifts(layer)
        scale, shift = scale_and_shift(layer.bn2)
        factory = {"device": kernel.device, "dtype": layer.expand.weight.dtype}
        self.split = layer.split
        self.conv = layer._convolution(layer.in_channels, layer.out_channels, 1, False, **factory)
        self.conv.weight.copy_(kernel * scale.view(-1, 1, 1, 1))
        self.shifts = nn.Parameter((shifts * scale.view(-1, 1, 1, 1)).to(**factory))  # by the taps, (o, 1, k, k)
        self.shift = nn.Parameter(shift.to(**factory))
        self.expand = rescaled(layer.expand, torch.ones_like(shift))
        self.se = copy.deepcopy(layer.se)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H, W)."""
        y = self.conv(x).add_(self._border(x))
        weights = self.se.weights(y.mean((2, 3)))
        weights = weights if self.scale is None else weights * self.scale
        expanded = pointwise(self.expand, x[:, self.split[0] :])
        return torch.addcmul(expanded, y, weights[:, :, None, None])

    def _border(self, x: Tensor) -> Tensor:
        """Return what the kernels make of the shift at each place, (1, o, H, W)."""
        ones = torch.ones_like(x[:1, :1])
        return self.conv._conv_forward(ones, self.shifts, self.shift)

    def _rescale(self, scale: Tensor, shift: Tensor | None) -> None:
        self.expand = rescaled(self.expand, scale, shift)


def _kernel_and_shifts(layer: BDRConv2d) -> tuple[Tensor, Tensor]:
    """Return the kernel in front of the second batch norm, (o, i, k, k), and the first one's shift in it, by taps."""
    main, base = layer.split[0], layer.main_conv.out_channels
    scale, shift = (value.double() for value in scale_and_shift(layer.bn1))
    diversity = dense_kernel(layer.diversity_conv.weight.double(), main)  # (o − a, m + o, k, k)
    scaled = diversity * scale.view(-1, 1, 1)
    expand = layer.expand.weight.double().flatten(1)  # (o, i − m)
    through_expand = torch.einsum("dekl,ei->dikl", scaled[:, main:], expand)
    intrinsic = F.pad(enlarged(layer.main_conv.weight.double(), layer.kernel_size), (0, 0, 0, 0, 0, layer.split[1]))
    kernel = torch.cat((intrinsic, torch.cat((scaled[:, :main], through_expand), 1)))
    shifts = torch.einsum("dekl,e->dkl", diversity, shift).unsqueeze(1)
    return kernel, F.pad(shifts, (0, 0, 0, 0, 0, 0, base, 0))
