"""Parallel branches, each a convolution and its batch norm, whose sum is one convolution once training is over."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efficientconv.layers.batch_norm import folded


class ConvBN(nn.Module):
    """A convolution without bias and the batch norm behind it.

    Args:
        conv: the convolution.
        factory: device and dtype of the batch norm.
    """

    def __init__(self, conv: nn.Conv2d, **factory: Any) -> None:
        super().__init__()
        self.conv = conv
        self.bn = nn.BatchNorm2d(conv.out_channels, **factory)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H', W')."""
        return self.bn(self.conv(x))

    def fold(self) -> nn.Conv2d:
        """Return one convolution, with a bias, that computes the same in eval mode."""
        return folded(self.conv, self.bn)


def identity_convolution(norm: nn.BatchNorm2d, groups: int) -> nn.Conv2d:
    """Return the 1×1 convolution, without bias, that hands the channels in front of ``norm`` through as they are."""
    factory: dict[str, Any] = {"device": norm.weight.device, "dtype": norm.weight.dtype}
    conv = nn.Conv2d(norm.num_features, norm.num_features, 1, groups=groups, bias=False, **factory)
    nn.init.dirac_(conv.weight, groups)
    return conv


def sum_of_convolutions(*convs: nn.Conv2d) -> nn.Conv2d:
    """Return one convolution, of the first one's geometry, that computes the sum of all.

    Args:
        convs: with a bias, on the same grid of outputs; the kernels of the others are odd, no larger than the first
            one's, and stand at its centre. All stay as they are.
    """
    result = copy.deepcopy(convs[0])
    kernels = [_enlarged(conv.weight.detach(), *result.kernel_size) for conv in convs]
    biases = [conv.bias.detach() for conv in convs if conv.bias is not None]
    result.weight, result.bias = (nn.Parameter(torch.stack(terms).sum(0)) for terms in (kernels, biases))
    return result


def _enlarged(kernel: Tensor, rows: int, columns: int) -> Tensor:
    """Surround (o, i, k, l) with zeros: (o, i, rows, columns)."""
    above, left = (rows - kernel.shape[2]) // 2, (columns - kernel.shape[3]) // 2
    return F.pad(kernel, (left, left, above, above))
