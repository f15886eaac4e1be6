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

from efficientconv.layers.approximation import block_mask, centre, factorize, grouped_weight, relative_error, set_bias
from efficientconv.layers.base import ConvVariant, PaddingMode, Size2, rename_prefixes, require_divisor, require_whole
from efficientconv.layers.folded_form import is_narrow
from efficientconv.layers.fusion import softmax_fusion
from efficientconv.layers.scconv_folded import FoldedSCConv
from efficientconv.layers.scconv_native import native_library, reconstruct

OPEN = 4.0  # standard deviations of its input by which a group norm's bias keeps the SRU open


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
        if native := native_library(self, x):
            return reconstruct(native, self, x)
        return self._channel_reconstruction(self._spatial_reconstruction(x))

    def _spatial_reconstruction(self, x: Tensor) -> Tensor:
        gamma = self.norm.weight
        scores = self.norm(x) * (gamma / gamma.sum()).view(-1, 1, 1)
        weights = torch.sigmoid(scores)
        # sigmoid(score) > threshold; in bfloat16 most sigmoids near 1/2 are 1/2, and the comparison would be lost
        informative = scores > self.threshold_of_scores
        x1, x2 = x * weights.masked_fill(informative, 1), x * weights.masked_fill(informative, 0)
        return x1 + x2.roll(self.in_channels // 2, 1)

    @property
    def threshold_of_scores(self) -> float:
        """Score whose sigmoid is ``gate_threshold``."""
        return math.log(self.gate_threshold / (1 - self.gate_threshold))

    def _channel_reconstruction(self, x: Tensor) -> Tensor:
        upper, lower = x.split(self.split, 1)
        up, low = self.squeeze1(upper), self.squeeze2(lower)
        y1 = self.gwc(up) + self.pwc1(up)
        y2 = torch.cat((self.pwc2(low), low), 1)
        return softmax_fusion(y1, y2)

    @torch.no_grad()
    def approximate(self, weight: Tensor, bias: Tensor | None = None) -> float | None:
        """Begin near the kernel by alternating least squares between squeezing and what follows it, path by path.

        The SRU begins open, by a group norm's bias so large that all channels count as informative. Both paths are
        doubled, since the fusion begins with β = 1/2 where the input is zero; the means of their outputs, and a bias,
        move it, and nothing can hold it there. A kernel of even size has no approximation.
        """
        if not self._is_odd:
            return None
        self.norm.weight.fill_(1)
        self.norm.bias.fill_(OPEN + self.in_channels * max(0.0, self.threshold_of_scores))
        upper, lower = weight.double().split(self.split, 1)
        lost = self._approximate_upper(2 * upper) + self._approximate_lower(2 * lower)
        set_bias(self.gwc.bias, None if bias is None else 2 * bias)
        return relative_error(lost / 4, weight.double())

    def _approximate_upper(self, kernel: Tensor) -> Tensor:
        """Set ``squeeze1``, ``gwc`` and ``pwc1``; return the squared error."""
        squeezed, taps = self.squeeze1.out_channels, kernel.shape[2] * kernel.shape[3]
        in_group = block_mask(self.out_channels, squeezed, self.gwc.groups)
        mask = in_group.expand(taps, -1, -1).clone()
        mask[taps // 2] = True  # the 1×1 reaches all channels
        by_tap = kernel.flatten(2).movedim(2, 0)  # (T, o, u)
        start = torch.linalg.svd(by_tap.flatten(0, 1), full_matrices=False).Vh[:squeezed]
        found = factorize(by_tap, by_tap.new_zeros(mask.shape), mask, start)
        dense = found.weights.movedim(0, 2).unflatten(2, self.kernel_size)
        self.squeeze1.weight.copy_(found.expansion[..., None, None])
        self.gwc.weight.copy_(grouped_weight(dense, self.gwc.groups))
        self.pwc1.weight.copy_(centre(dense).masked_fill(in_group, 0)[..., None, None])
        return found.squared_error

    def _approximate_lower(self, kernel: Tensor) -> Tensor:
        """Set ``squeeze2`` and ``pwc2``; return the squared error. The last outputs are the squeezed channels."""
        made, squeezed = self.pwc2.out_channels, self.squeeze2.out_channels
        handed = torch.eye(squeezed, dtype=kernel.dtype)
        fixed = torch.cat((handed.new_zeros(made, squeezed), handed)).unsqueeze(0)
        mask = (torch.arange(self.out_channels) < made).view(1, -1, 1).expand(1, -1, squeezed)
        middle = centre(kernel)
        found = factorize(middle.unsqueeze(0), fixed, mask, middle[made:])
        self.squeeze2.weight.copy_(found.expansion[..., None, None])
        self.pwc2.weight.copy_(found.weights[0, :made, :, None, None])
        return found.squared_error + kernel.square().sum() - middle.square().sum()

    def fold(self) -> nn.Module:
        """Return the reconstruction and two convolutions where channels are few; else a copy."""
        if not self._is_odd or not is_narrow(self.in_channels, self.out_channels):
            return super().fold()
        return FoldedSCConv(self).eval()

    @staticmethod
    def from_authors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the two units' parts from those of the code that circulates; the authors' own is not public."""
        parts = {"SRU.gn": "norm", "CRU.GWC": "gwc", "CRU.PWC1": "pwc1", "CRU.PWC2": "pwc2"}
        return rename_prefixes(state_dict, {**parts, "CRU.squeeze1": "squeeze1", "CRU.squeeze2": "squeeze2"})
