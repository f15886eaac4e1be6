"""CondConv: each image's kernel is a mixture of experts' kernels, with weights that come from the image.

Yang, Bender, Le and Ngiam, "CondConv: Conditionally Parameterized Convolutions for Efficient Inference", NeurIPS 2019,
arXiv:1904.04971, section 3, equations 1 and 2.

K times the parameters for one convolution's MACs and a little: mixing costs as many MACs an image as the experts have
weights, and routing K·i.

The authors' code is TensorFlow's. This keeps its layout, a row of weights for each expert, as timm does. Unlike
timm's layer it holds its own routing, which timm's EfficientNets share among the convolutions of a block.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from efficientconv.layers.base import ConvVariant, PaddingMode, Size2, rename_prefixes, require_whole


class CondConv2d(ConvVariant):
    """Conditionally parameterised convolution.

    ::

        r = sigmoid(R·mean x + s)              a weight for each expert, (K,)
        y = conv2d(x, Σ_e r_e·W_e) + Σ_e r_e·b_e

    Args:
        in_channels: i.
        out_channels: o.
        kernel_size: in pixels.
        stride: in pixels.
        padding: in pixels.
        dilation: in pixels.
        groups: g, of each expert.
        bias: whether each expert has one, together (K, o).
        padding_mode: as ``nn.Conv2d``'s.
        device: of the parameters.
        dtype: of the parameters.
        num_experts: K; the authors' EfficientNets have 4 or 8.

    Raises:
        ValueError: ``num_experts`` is below 1, or the geometry is none.

    ``fold()`` returns a copy: the kernel depends on the image.
    """

    weight: nn.Parameter
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
        num_experts: int = 8,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode)
        require_whole("num_experts", num_experts)
        self.num_experts = num_experts
        self.kernel_shape = (out_channels, in_channels // groups, *self.kernel_size)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.routing = nn.Linear(in_channels, num_experts, **factory)
        # flat, since ``.to(memory_format=torch.channels_last)`` fails on parameters of five dimensions
        self.weight = nn.Parameter(torch.empty(num_experts, math.prod(self.kernel_shape), **factory))
        self.bias = nn.Parameter(torch.empty(num_experts, out_channels, **factory)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Each expert as ``nn.Conv2d``: uniform within 1/√fan-in; the routing as ``nn.Linear``."""
        self.routing.reset_parameters()
        bound = 1 / math.sqrt(math.prod(self.kernel_shape[1:]))
        for parameter in (self.weight, self.bias):
            if parameter is not None:
                nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W')."""
        routing = torch.sigmoid(self.routing(x.mean((2, 3))))  # (N, K)
        kernels = (routing @ self.weight).unflatten(1, self.kernel_shape)  # (N, o, i/g, k, k)
        bias = None if self.bias is None else routing @ self.bias
        return self._convolve_per_image(x, kernels, bias)

    @torch.no_grad()
    def approximate(self, weight: Tensor, bias: Tensor | None = None) -> float:
        """Begin as the convolution itself: the routing rests at 1/2, and half the sum of all experts is its kernel.

        The experts keep what their initialisation has made of each beside the mean, or they would stay equal for ever.
        """
        self.routing.weight.zero_()
        self.routing.bias.zero_()
        for experts, whole in ((self.weight, weight), (self.bias, bias)):
            if experts is not None:
                half = 0.0 if whole is None else 2 / self.num_experts * whole.flatten()
                experts.add_(half - experts.mean(0))
        return 0.0

    @staticmethod
    def from_authors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename timm's ``routing_fn``, put beside the keys of timm's layer; the authors' own code is TensorFlow's."""
        return rename_prefixes(state_dict, {"routing_fn": "routing"})

    def extra_repr(self) -> str:
        """Show the geometry as ``nn.Conv2d`` does, and the experts."""
        return f"{super().extra_repr()}, bias={self.bias is not None}, num_experts={self.num_experts}"
