"""Parallel branches, each a convolution and its batch norm, whose sum is one convolution once training is over."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efficientconv.layers.approximation import resized
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
        convs: of as many groups, on the same grid of outputs; the kernels of the others are odd, no larger than the
            first one's, and stand at its centre. All stay as they are.
    """
    result = copy.deepcopy(convs[0])
    kernels = [resized(conv.weight.detach(), result.kernel_size) for conv in convs]
    biases = [conv.bias.detach() for conv in convs if conv.bias is not None]
    result.weight = nn.Parameter(torch.stack(kernels).sum(0))
    result.bias = nn.Parameter(torch.stack(biases).sum(0)) if biases else None
    return result


def behind_1x1(first: nn.Conv2d, conv: nn.Conv2d) -> nn.Conv2d:
    """Return one convolution that computes ``conv(first(x))``; both stay as they are.

    Args:
        first: a dense 1×1 without bias, so that it hands a padding's zeros on as zeros.
        conv: dense.
    """
    result = copy.deepcopy(conv)
    result.in_channels = first.in_channels
    kernel = torch.einsum("omkl,mi->oikl", conv.weight.detach().double(), first.weight.detach().double().flatten(1))
    result.weight = nn.Parameter(kernel.to(conv.weight))
    return result


def dense(conv: nn.Conv2d) -> nn.Conv2d:
    """Return a convolution of one group that computes the same; ``conv`` stays as it is."""
    result = copy.deepcopy(conv)
    result.groups = 1
    result.weight = nn.Parameter(dense_kernel(conv.weight.detach(), conv.groups))
    return result


def with_zeros_in_front(conv: nn.Conv2d, in_channels: int) -> nn.Conv2d:
    """Return a convolution that takes so many channels, and computes from the last ones what ``conv`` does.

    Where channels are few, a 1×1 convolution of all is faster than a product with a slice and a bias: 1.2 times or more
    with 64 images of 16 channels at 32×32, and as fast with 64 channels at 8×8. An exported graph has no slice then.
    """
    result = copy.deepcopy(conv)
    weight = F.pad(conv.weight.detach(), (0, 0, 0, 0, in_channels - conv.in_channels, 0))
    result.in_channels, result.weight = in_channels, nn.Parameter(weight)
    return result


def dense_kernel(weight: Tensor, groups: int) -> Tensor:
    """Surround the blocks of a grouped kernel with zeros, (o, i/g, k, l) → (o, i, k, l): undoes ``grouped_weight``."""
    blocks = weight.unflatten(0, (groups, -1))  # (g, o/g, i/g, k, l)
    kernel = weight.new_zeros(*blocks.shape[:2], groups, *blocks.shape[2:])
    kernel.diagonal(dim1=0, dim2=2).copy_(blocks.movedim(0, -1))
    return kernel.flatten(0, 1).flatten(1, 2)
