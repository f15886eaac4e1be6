"""ODConv: attention over all four dimensions of the kernel space.

Li, Zhou and Yao, "Omni-Dimensional Dynamic Convolution", ICLR 2022, arXiv:2209.07947, equation 2 and figure 1; the
layer is ``ODConv2d`` of the authors' code.

Where the authors' code and the paper differ, this follows the code:

- The attentions over input and output channels weight the features, in front of and behind the convolution, which is
  the same as weighting the kernels and cheaper.
- All n kernels share the attentions over positions, input and output channels; only the kernels' own weights differ.
- What has nothing to attend to is left out: positions where the kernel is 1×1, kernels where there is one, output
  channels where the convolution is depthwise with o = i, since the input channels' attention is the same there.

The code knows square kernels without bias; here kernels may be rectangular, and a bias is added at the end.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from efficientconv.layers.approximation import set_bias
from efficientconv.layers.base import ConvVariant, PaddingMode, Size2, rename_prefixes, require_whole
from efficientconv.layers.batch_norm import folded_sequence
from efficientconv.layers.initialization import reset_to_kaiming_fan_out

HEADS = ("channel_fc", "filter_fc", "spatial_fc", "kernel_fc")


class ODConv2d(ConvVariant):
    """Omni-dimensional dynamic convolution.

    ::

        mean x ── 1×1 (a) ── BN ── ReLU ─┬─ 1×1 (i) ──── sigmoid ── α_c
                                         ├─ 1×1 (o) ──── sigmoid ── α_f
                                         ├─ 1×1 (k·k) ── sigmoid ── α_s
                                         └─ 1×1 (n) ──── softmax ── α_w

        y = α_f · conv2d(α_c·x, α_s · Σ_n α_w[n]·W[n]) + bias,      a = max(⌊reduction·i⌋, min_attention_channels)

    Each sigmoid and softmax divides by ``temperature`` first, a buffer (a scalar, 1) that training may anneal by
    ``layer.temperature.fill_(t)``, and that is saved with the weights. The authors start at 30, where all attentions
    are nearly even, and go down to 1 linearly, step by step, over the first 10 epochs.

    Args:
        in_channels: i.
        out_channels: o.
        kernel_size: in pixels.
        stride: in pixels.
        padding: in pixels.
        dilation: in pixels.
        groups: of each kernel.
        bias: whether there is one, (o,); the authors' layer has none.
        padding_mode: as ``nn.Conv2d``'s.
        device: of the parameters.
        dtype: of the parameters.
        num_kernels: n; the paper's "1×" to "4×".
        reduction: width of the attention, relative to i.
        min_attention_channels: the least width of the attention.

    Raises:
        ValueError: ``num_kernels`` or ``min_attention_channels`` is below 1, ``reduction`` is not positive, or the
            geometry is none.

    In training the attention's batch norm sees one pixel an image, so that a batch needs at least two. ``fold()`` takes
    that batch norm in; the kernel depends on the image and stays as it is.
    """

    temperature: Tensor
    bias: nn.Parameter | None
    channel_fc: nn.Conv2d
    filter_fc: nn.Conv2d | None
    spatial_fc: nn.Conv2d | None
    kernel_fc: nn.Conv2d | None

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
        num_kernels: int = 4,
        reduction: float = 0.0625,
        min_attention_channels: int = 16,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode)
        require_whole("num_kernels", num_kernels)
        require_whole("min_attention_channels", min_attention_channels)
        if not reduction > 0:
            raise ValueError(f"reduction={reduction}: must be positive; the paper uses 1/16 = 0.0625")
        self.num_kernels = num_kernels
        self.kernel_shape = (out_channels, in_channels // groups, *self.kernel_size)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self._add_attention(max(int(reduction * in_channels), min_attention_channels), **factory)
        # flat, since ``.to(memory_format=torch.channels_last)`` fails on parameters of five dimensions
        self.weight = nn.Parameter(torch.empty(num_kernels, math.prod(self.kernel_shape), **factory))
        self.bias = nn.Parameter(torch.empty(out_channels, **factory)) if bias else None
        self.register_buffer("temperature", torch.ones((), **factory))
        self.reset_parameters()

    def _add_attention(self, width: int, **factory: Any) -> None:
        self.attention = nn.Sequential(
            OrderedDict(
                fc=nn.Conv2d(self.in_channels, width, 1, bias=False, **factory),
                bn=nn.BatchNorm2d(width, **factory),
                relu=nn.ReLU(inplace=True),
            )
        )
        taps, depthwise = math.prod(self.kernel_size), self.groups == self.in_channels == self.out_channels
        weights = {
            "channel_fc": self.in_channels,
            "filter_fc": 0 if depthwise else self.out_channels,
            "spatial_fc": taps if taps > 1 else 0,
            "kernel_fc": self.num_kernels if self.num_kernels > 1 else 0,
        }
        for head, number in weights.items():
            setattr(self, head, nn.Conv2d(width, number, 1, **factory) if number else None)

    def reset_parameters(self) -> None:
        """Kaiming normal fan-out for all weights, zero for the biases, one for the temperature, as the authors'."""
        reset_to_kaiming_fan_out(self)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.zeros_(module.bias)
        out_channels, _, rows, columns = self.kernel_shape
        nn.init.normal_(self.weight, std=math.sqrt(2 / (out_channels * rows * columns)))
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        nn.init.ones_(self.temperature)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W')."""
        attention = self.attention(x.mean((2, 3), keepdim=True))  # (N, a, 1, 1)
        y = self._mixed(x * self._gate(self.channel_fc, attention), attention)
        if self.filter_fc is not None:
            y = y * self._gate(self.filter_fc, attention)
        return y if self.bias is None else y + self.bias.view(-1, 1, 1).to(y.dtype)

    def _gate(self, head: nn.Conv2d, attention: Tensor) -> Tensor:
        return torch.sigmoid(head(attention) / self.temperature)

    def _mixed(self, x: Tensor, attention: Tensor) -> Tensor:
        if self.spatial_fc is None and self.kernel_fc is None:
            return self._convolve(x, self.weight.view(self.kernel_shape), None, self.stride, self.groups)
        return self._convolve_per_image(x, self._kernels(attention))

    def _kernels(self, attention: Tensor) -> Tensor:
        """Mix each image's kernel, (N, o, i/groups, k, k)."""
        weight = self.weight  # (n, o·i/groups·k·k)
        if self.kernel_fc is not None:
            weight = (self.kernel_fc(attention).flatten(1) / self.temperature).softmax(1) @ weight  # (N, ...)
        kernels = weight.unflatten(1, self.kernel_shape)
        if self.spatial_fc is not None:
            kernels = kernels * self._gate(self.spatial_fc, attention).view(-1, 1, 1, *self.kernel_size)
        return kernels

    @torch.no_grad()
    def approximate(self, weight: Tensor, bias: Tensor | None = None) -> float:
        """Begin as the convolution itself: each attention rests, and the mean of all kernels makes up for them.

        The kernels keep what their initialisation has made of each beside the mean, or they would stay equal for ever.
        """
        gates = 1
        for head in (self.channel_fc, self.filter_fc, self.spatial_fc, self.kernel_fc):
            if head is not None:
                head.weight.zero_()
                set_bias(head.bias, None)
                gates *= 1 if head is self.kernel_fc else 2  # a sigmoid's 1/2; a softmax means
        self.weight.add_(gates * weight.flatten() - self.weight.mean(0))
        set_bias(self.bias, bias)
        return 0.0

    def _fold_batch_norms(self) -> None:
        self.attention = folded_sequence(self.attention)

    @staticmethod
    def from_authors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Flatten the kernels, take the heads out of ``attention``, and add the temperature: 1 after training."""
        state = rename_prefixes(state_dict, {f"attention.{head}": head for head in HEADS})
        if "weight" not in state:
            return state  # another layer's
        weight = state["weight"].flatten(1)
        return {**state, "weight": weight, "temperature": weight.new_ones(())}

    def extra_repr(self) -> str:
        """Show the geometry as ``nn.Conv2d`` does, and the kernels."""
        return f"{super().extra_repr()}, bias={self.bias is not None}, num_kernels={self.num_kernels}"
