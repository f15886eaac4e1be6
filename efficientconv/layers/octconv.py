"""OctConv: a part of the channels lives at half the resolution.

Chen, Fan, Xu, Yan, Kalantidis, Rohrbach, Yan and Feng, "Drop an Octave: Reducing Spatial Redundancy in Convolutional
Neural Networks with Octave Convolution", ICCV 2019, arXiv:1904.05049, section 3.2 and figure 2; strides by average
pooling, as section 3.3 has it.

The paper's layers hand on two tensors. Here it is one, so that any network can hold the layer: the high-frequency
channels first, then the low-frequency ones, each pixel of theirs repeated 2×2 (the authors' ``Adapter`` brings the
two together in the same form). A layer averages its low-frequency input over 2×2 windows, which gives back what was
repeated, and computes what the paper computes, at the paper's resolutions. In between, the network works on the
repeated pixels. For even sizes that changes nothing: activations, sums, drop-out of channels and global means commute
with repeating, and so does a batch norm, whose means and variances are the same. The paper's network and gradients
come out, with its multiply-adds. What differs:

- The running variance of a batch norm, by its correction n/(n − 1), with four times the n.
- Where H is odd the last row of a low-frequency map is not repeated, and counts half in means and variances. The
  paper's networks have no odd maps; the authors' code, like this, rounds up.
- A pooling layer between two convolutions: after 2×2 pooling at stride 2 the low-frequency channels hold what was one
  of their pixels in one pixel, and the next layer halves them by averaging, whatever the pooling is (the paper's
  would go through it at their own resolution).
- What lies between the layers takes the memory and time of the full resolution.

All paths are blocks of one weight of the ordinary convolution's shape, as in figure 2. As in the paper, α_in = 0 in
the first layer and α_out = 0 in the last: a network needs three kinds of this layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efficientconv.layers.affine import add_to_first_channels
from efficientconv.layers.approximation import on_pooled_grid, relative_error, set_bias
from efficientconv.layers.base import ConvVariant, PaddingMode, Size2
from efficientconv.layers.cpu_forms import runs_in_cpu_form
from efficientconv.layers.octconv_folded import FoldedOctConv
from efficientconv.layers.octconv_native import convolve_octaves, native_library
from efficientconv.layers.pooling import stride_pooling

OCTAVE = (2, 2)


class OctConv2d(ConvVariant):
    """Octave convolution, dense or depthwise.

    ::

        y_high = W_hh * pool_s(x_high) + repeat(W_lh * pool_2s(x_low))
        y_low  = repeat(W_hl * pool_2s(x_high) + W_ll * pool_2s(x_low))

        pool_n: average over n×n windows at stride n;   repeat: each pixel 2×2 times
        at an even s:  W_lh * pool_s(x_low), not repeated;   depthwise: W_hh and W_ll alone

    k²·i·o weights, as an ordinary convolution. With α_in = α_out = α and stride 1 it costs 1 − ¾·α·(2 − α) of its
    multiply-adds.

    Args:
        in_channels: i, of which the last ⌊α_in·i⌋ are of low frequency.
        out_channels: o, of which the last ⌊α_out·o⌋ are of low frequency.
        kernel_size: of all paths, in pixels.
        stride: s, by average pooling in front of the convolutions.
        padding: dilation·(kernel_size − 1)/2.
        dilation: of all paths, in pixels of their resolution.
        groups: 1, or i and o for a depthwise convolution.
        bias: whether there is one.
        padding_mode: of all paths.
        device: of the parameters.
        dtype: of the parameters.
        alpha_in: α_in, share of low-frequency channels in the input, at least 0 and below 1; 0 for an ordinary tensor.
        alpha_out: α_out, likewise of the output.

    Raises:
        ValueError: a share lies outside [0, 1), ``groups`` is something between, the shares of a depthwise convolution
            differ, ``padding`` is another, or the geometry is none.
    """

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
        alpha_in: float = 0.5,
        alpha_out: float = 0.5,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode)
        self._require_same_padding()
        for name, alpha in (("alpha_in", alpha_in), ("alpha_out", alpha_out)):
            if not 0 <= alpha < 1:
                raise ValueError(f"{name}={alpha}: must be at least 0 and below 1; the paper's are 0.125 to 0.75")
        self._check_groups(alpha_in, alpha_out)
        self.low_in, self.low_out = int(alpha_in * in_channels), int(alpha_out * out_channels)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, *self.kernel_size, **factory))
        self.bias = nn.Parameter(torch.empty(out_channels, **factory)) if bias else None
        self.octave = stride_pooling(OCTAVE)
        self.pool = stride_pooling(self.stride)
        rows, columns = (s if s % 2 else s // 2 for s in self.stride)
        self.low_to_high_pool = stride_pooling((rows, columns))
        self.reset_parameters()

    def _check_groups(self, alpha_in: float, alpha_out: float) -> None:
        if self.groups == 1:
            return
        if not self.groups == self.in_channels == self.out_channels:
            raise ValueError(
                f"groups={self.groups}: OctConv2d is dense or depthwise; 1, or with in_channels = out_channels "
                f"{self.in_channels}, would fit"
            )
        if alpha_in != alpha_out:
            raise ValueError(
                f"alpha_out={alpha_out}: must equal alpha_in={alpha_in} in a depthwise convolution, since its channels "
                "keep their resolution"
            )

    @property
    def depthwise(self) -> bool:
        """Whether each channel has its own kernel, so that the two resolutions do not mix."""
        return self.groups > 1

    @property
    def _high_inputs(self) -> int:
        """Inputs of high frequency that each kernel of the weight has, in front of those of low frequency."""
        return self.weight.shape[1] if self.depthwise else self.in_channels - self.low_in

    def _to_high_and_low(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """Split a weight or bias by the frequency of the output channels."""
        high, low = tensor.split((self.out_channels - self.low_out, self.low_out))
        return high, low

    def reset_parameters(self) -> None:
        """Kaiming normal fan-out for each path, as in the PyTorch port, and zero for the bias.

        The authors' MXNet code takes the mean of fan-in and fan-out, also path by path.
        """
        high_in = self._high_inputs
        for block in self._to_high_and_low(self.weight.detach()):
            for path in (block[:, :high_in], block[:, high_in:]):
                if path.numel():
                    nn.init.kaiming_normal_(path, mode="fan_out", nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ⌈H/s⌉, ⌈W/s⌉), low-frequency channels last in both."""
        if native := native_library(self, x):
            return convolve_octaves(native, self, x)
        if self.stride == (1, 1) and self.low_in and self.low_out and not self.depthwise and runs_in_cpu_form(x):
            return self._repeated_at_once(x)
        high, low = x.split((self.in_channels - self.low_in, self.low_in), 1)
        to_high, to_low = self._to_high_and_low(self.weight)
        bias_high, bias_low = (None, None) if self.bias is None else self._to_high_and_low(self.bias)
        y = self._path(self.pool(high), to_high[:, : high.shape[1]], bias_high)
        if self.low_in and not self.depthwise:
            y_from_low = self._path(self.low_to_high_pool(self.octave(low)), to_high[:, high.shape[1] :])
            y = y + _repeated(y_from_low, y)
        if self.low_out:
            halved = self.octave(self.pool(low if self.depthwise else x))  # (N, i, ⌈H/2s⌉, ⌈W/2s⌉)
            y_low = self._path(halved, to_low, bias_low)
            y = torch.cat((y, _repeated(y_low, y)), 1)
        return y

    def _repeated_at_once(self, x: Tensor) -> Tensor:
        """Compute the same with one convolution of all that lives at half the resolution, and one repetition.

        Its block from high to high is zero, which costs a sixteenth of the ordinary convolution's multiply-adds and
        saves five passes over x and y: forward and backward 1.4, 1.3 and 1.2 times as fast with 16 channels at 32×32,
        32 at 16×16 and 64 at 8×8, and 1.4, 1.3 and 1.1 where the channels come first.
        """
        to_high, to_low = self._to_high_and_low(self.weight)
        high_to_high, low_to_high = to_high.split((self.in_channels - self.low_in, self.low_in), 1)
        on_half = torch.cat((F.pad(low_to_high, (0, 0, 0, 0, self.in_channels - self.low_in, 0)), to_low))
        y = _repeated(self._path(self.octave(x), on_half, self.bias), x)
        return add_to_first_channels(y, self._path(x[:, : high_to_high.shape[1]], high_to_high))

    def _path(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Convolve at stride 1; how many groups follows from the widths."""
        return self._convolve(x, weight, bias, groups=x.shape[1] // weight.shape[1])

    @torch.no_grad()
    def approximate(self, weight: Tensor, bias: Tensor | None = None) -> float:
        """Begin with the nearest operator, path by path: a projection, see ``on_pooled_grid``.

        From high to high at stride 1 that is the kernel itself. The other paths see pooled pixels, and repeat what they
        give, so that the whole repeats itself every 2·stride pixels: K̂ is the operator on one such period.
        """
        kernel = weight.double()
        high_in = self._high_inputs
        own_high, own_low = self._to_high_and_low(self.weight)
        to_high, to_low = self._to_high_and_low(kernel)
        rows, columns = (1 if stride % 2 == 0 else 2 for stride in self.stride)
        paths = (
            (own_high[:, :high_in], to_high[:, :high_in], (1, 1)),
            (own_high[:, high_in:], to_high[:, high_in:], (rows, columns)),
            (own_low, to_low, OCTAVE),
        )
        squared_error = kernel.square().sum()
        for path, part, repeat in paths:
            nearest = on_pooled_grid(part, self.dilation, self.padding, self.stride, repeat)
            path.copy_(nearest)
            squared_error -= nearest.square().sum() / math.prod((*self.stride, *repeat))
        set_bias(self.bias, bias)
        return relative_error(squared_error, kernel)

    def fold(self) -> nn.Module:
        """Return one convolution at each resolution where both are there, at stride 1 or 2; else a copy."""
        is_one_map = not self.low_out and self.stride == OCTAVE  # nothing is left at half the resolution
        if self.depthwise or self.stride not in ((1, 1), OCTAVE) or is_one_map:
            return super().fold()
        return FoldedOctConv(self).eval()

    @staticmethod
    def from_authors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Join the paths of the PyTorch port (d-li14/octconv.pytorch); the authors' own code is for MXNet."""
        joined = {}
        for kind in ("weight", "bias"):
            paths = ([state_dict.get(f"conv_{source}2{to}.{kind}") for source in "hl"] for to in "hl")
            present = [[path for path in row if path is not None] for row in paths]
            rows = [torch.cat(row, 1) if kind == "weight" else torch.stack(row).sum(0) for row in present if row]
            if rows:
                joined[kind] = torch.cat(rows)
        return joined

    def extra_repr(self) -> str:
        """Show the geometry as ``nn.Conv2d`` does, and how many channels are of low frequency."""
        return f"{super().extra_repr()}, bias={self.bias is not None}, low_in={self.low_in}, low_out={self.low_out}"


def _repeated(low: Tensor, like: Tensor) -> Tensor:
    """Repeat the pixels of ``low`` so that it gets the height and width of ``like``, at most twice its own."""
    return F.interpolate(low, size=like.shape[2:], mode="nearest")
