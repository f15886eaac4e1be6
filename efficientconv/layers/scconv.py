"""SCConv: spatial, then channel redundancy is taken out of the features and put to use.

Li, Wen and He, "SCConv: Spatial and Channel Reconstruction Convolution for Feature Redundancy", CVPR 2023, pages
6153–6162, doi:10.1109/CVPR52729.2023.00596: the spatial (SRU) and the channel reconstruction unit (CRU).

The authors have published no code. What circulates (``ScConv``) differs from the paper, and this follows the paper:

- It fuses by one softmax over the 2·o channel means of both paths; the paper's is over the two paths, channel by
  channel, so that β₁ + β₂ = 1.

Where the paper says nothing, this follows that code: the k×k convolution alone has a bias, and torch's initialisation.
The groups of the group norm, of which it gives 16 in one place and 4 in another, are ``norm_groups``.

In that code in and out are the same. Here they may differ, since the CRU's last convolutions alone make the width. A
stride is refused: the CRU hands squeezed channels through, and neither paper nor code says how these would shrink.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from efficientconv.layers.base import ConvVariant, PaddingMode, Size2, rename_prefixes, require_divisor, require_whole
from efficientconv.layers.fusion import softmax_fusion


class SCConv2d(ConvVariant):
    """Spatial and channel reconstruction convolution.

    ::

        SRU   w = sigmoid(γ/Σγ · GN(x));   x₁ = x·(1 where w > gate_threshold, else w)
                                           x₂ = x·(0 where w > gate_threshold, else w)
              z = x₁ + x₂ with its two halves of channels exchanged

        CRU   z ─┬─ first u = ⌊α·i⌋ ── 1×1 (u/r) ─┬─ k×k, gwc_groups (o) ─┐
                 │                                └─ 1×1 (o) ─────────────┴─ + ── y₁ ─┐
                 └─ other l = i − u ── 1×1 (l/r) ─┬─ 1×1 (o − l/r) ───────┐           │
                                                  └───────────────────────┴─ concat ── y₂ ─ β₁·y₁ + β₂·y₂

        (β₁, β₂) = softmax(mean y₁, mean y₂) for each image and channel;   γ: the group norm's weight

    Args:
        in_channels: i, even.
        out_channels: o.
        kernel_size: of the k×k convolution, in pixels.
        stride: 1.
        padding: dilation·(kernel_size − 1)/2.
        dilation: of the k×k convolution, in pixels.
        groups: 1.
        bias: whether the k×k convolution has one; the 1×1s have none.
        padding_mode: of the k×k convolution.
        device: of the parameters.
        dtype: of the parameters.
        norm_groups: groups of the SRU's group norm.
        gate_threshold: between 0 and 1; the paper's 0.5.
        alpha: share of the channels on the upper path; the paper's 1/2.
        squeeze_ratio: r; the paper's 2.
        gwc_groups: groups of the k×k convolution; the paper's 2.

    Raises:
        ValueError: a width that a norm, a split or a group does not divide, ``stride`` or ``groups`` is not 1,
            ``padding`` is another, or the geometry is none.
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
        norm_groups: int = 16,
        gate_threshold: float = 0.5,
        alpha: float = 0.5,
        squeeze_ratio: int = 2,
        gwc_groups: int = 2,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode)
        self._require_dense()
        self._require_stride_1()
        self._require_same_padding()
        self._check_norm(norm_groups, gate_threshold)
        upper = int(alpha * in_channels)
        self.split = (upper, in_channels - upper)
        self._check_paths(alpha, squeeze_ratio, gwc_groups)
        up, low = upper // squeeze_ratio, self.split[1] // squeeze_ratio
        self.gate_threshold = gate_threshold
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.norm = nn.GroupNorm(norm_groups, in_channels, **factory)
        self.squeeze1 = nn.Conv2d(upper, up, 1, bias=False, **factory)
        self.squeeze2 = nn.Conv2d(self.split[1], low, 1, bias=False, **factory)
        self.gwc = self._convolution(up, out_channels, gwc_groups, bias, **factory)
        self.pwc1 = nn.Conv2d(up, out_channels, 1, bias=False, **factory)
        self.pwc2 = nn.Conv2d(low, out_channels - low, 1, bias=False, **factory)
        self.reset_parameters()

    def _check_norm(self, norm_groups: int, gate_threshold: float) -> None:
        if self.in_channels % 2:
            raise ValueError(
                f"in_channels={self.in_channels}: must be even, since halves of the channels are exchanged; "
                f"{self.in_channels + 1} would fit"
            )
        require_divisor("norm_groups", norm_groups, in_channels=self.in_channels)
        if not 0 < gate_threshold < 1:
            raise ValueError(f"gate_threshold={gate_threshold}: must lie between 0 and 1; the paper uses 0.5")

    def _check_paths(self, alpha: float, squeeze_ratio: int, gwc_groups: int) -> None:
        require_whole("squeeze_ratio", squeeze_ratio)
        up, low = (width // squeeze_ratio for width in self.split)
        if min(up, low) < 1:
            raise ValueError(
                f"alpha={alpha}: splits in_channels={self.in_channels} into {self.split}, which both must be at least "
                f"squeeze_ratio={squeeze_ratio}; 0.5 would fit from in_channels={2 * squeeze_ratio} on"
            )
        require_divisor("gwc_groups", gwc_groups, squeezed_channels=up, out_channels=self.out_channels)
        if self.out_channels <= low:
            raise ValueError(
                f"out_channels={self.out_channels}: must exceed the {low} channels that the lower path hands through; "
                f"{low + 1} or more, or a larger squeeze_ratio, would fit"
            )

    @property
    def bias(self) -> Tensor | None:
        """The k×k convolution's bias, (out_channels,), or None."""
        return self.gwc.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H, W)."""
        return self._channel_reconstruction(self._spatial_reconstruction(x))

    def _spatial_reconstruction(self, x: Tensor) -> Tensor:
        gamma = self.norm.weight
        scores = self.norm(x) * (gamma / gamma.sum()).view(-1, 1, 1)
        weights = torch.sigmoid(scores)
        # sigmoid(score) > threshold; in bfloat16 most sigmoids near 1/2 are 1/2, and the comparison would be lost
        informative = scores > math.log(self.gate_threshold / (1 - self.gate_threshold))
        x1, x2 = x * weights.masked_fill(informative, 1), x * weights.masked_fill(informative, 0)
        return x1 + x2.roll(self.in_channels // 2, 1)

    def _channel_reconstruction(self, x: Tensor) -> Tensor:
        upper, lower = x.split(self.split, 1)
        up, low = self.squeeze1(upper), self.squeeze2(lower)
        y1 = self.gwc(up) + self.pwc1(up)
        y2 = torch.cat((self.pwc2(low), low), 1)
        return softmax_fusion(y1, y2)

    @staticmethod
    def from_authors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the two units' parts from those of the code that circulates; the authors' own is not public."""
        parts = {"SRU.gn": "norm", "CRU.GWC": "gwc", "CRU.PWC1": "pwc1", "CRU.PWC2": "pwc2"}
        return rename_prefixes(state_dict, {**parts, "CRU.squeeze1": "squeeze1", "CRU.squeeze2": "squeeze2"})
