"""SlimConv: channels are weighted, folded onto one another and convolved at a fraction of the width.

Qiu, Chen, Liu, Zhang and Zeng, "SlimConv: Reducing Channel Redundancy in Convolutional Neural Networks by Features
Recombining", IEEE Transactions on Image Processing 2021, arXiv:2003.07469 (there "by Weights Flipping"): the steps
Reconstruct, Transform and Fuse; the layer is ``slim_conv_3x3`` of the authors' code.

The paper's compression k is 2n/3, with n the number of parts that are folded onto one another (``num_splits``). The
code has n = 2 alone; the other n are what reproduces the paper's parameter counts:

- i/n channels on the first path and i/2n on the second, whatever n; where n does not divide i, the remainder of the
  channels is left out.
- In a grouped convolution the second path has half the groups (Sc-ResNeXt-101 32×3d, k = 2: 32 and 16). The code gives
  both paths all of them, which for that network it cannot build; ``second_path_groups=groups`` is its layer.

``restore_width`` is not the paper's: the paper uses the layer only where a 1×1 convolution follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from efficientconv.layers.affine import sum_of_parts
from efficientconv.layers.base import ConvVariant, PaddingMode, Size2, rename_prefixes, require_divisor, require_whole
from efficientconv.layers.batch_norm import folded_sequence
from efficientconv.layers.concatenation import concatenate
from efficientconv.layers.initialization import reset_to_kaiming_fan_out
from efficientconv.layers.slimconv_native import inference, native_library, training_step

GATE_REDUCTION = 32


class SlimConv2d(ConvVariant):
    """Slim convolution; its output is narrower than its input, and carries its own batch norms.

    ::

        mean x ── 1×1 (i/32) ── BN ── ReLU ── 1×1 (i) ── sigmoid ── w

        x·w          ── sum of n parts of i/n ── k×k ── BN ─────────────────────────────┐
        x·flip(w)    ── sum of n parts of i/n ── 1×1 ── BN ── ReLU ── k×k ── BN (i/2n) ─┴─ concat (i/n + i/2n)

    Args:
        in_channels: i, at least 32.
        out_channels: the width asked for, equal to i. The attribute ``out_channels`` is the width there is:
            ⌊i/n⌋ + ⌊i/2n⌋, or what was asked for with ``restore_width``.
        kernel_size: of the two k×k convolutions, in pixels.
        stride: of the two k×k convolutions, in pixels.
        padding: of the two k×k convolutions, in pixels.
        dilation: of the two k×k convolutions, in pixels.
        groups: of the k×k convolution on the first path.
        bias: accepted and without effect, since the output carries batch norms' shifts; ``self.bias`` is None.
        padding_mode: of the two k×k convolutions.
        device: of the parameters.
        dtype: of the parameters.
        num_splits: n, at least 2; the paper's k is 2n/3.
        second_path_groups: of the k×k convolution on the second path; None for half of ``groups``, at least 1.
        restore_width: a ReLU and a 1×1 convolution without bias at the end, back to the width asked for.

    Raises:
        ValueError: in and out differ, i is below 32 or 2n, ``groups`` or ``second_path_groups`` does not divide its
            path's width, or the geometry is none.

    In training the gate's batch norm sees one pixel an image, so that a batch needs at least two.
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
        num_splits: int = 2,
        second_path_groups: int | None = None,
        restore_width: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode)
        self._check_widths(num_splits)
        self.num_splits = num_splits
        first, second = in_channels // num_splits, in_channels // (2 * num_splits)
        self._check_groups(second_path_groups)
        second_groups = second_path_groups or max(1, groups // 2)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.gate = _gate(in_channels, **factory)
        self.path1 = nn.Sequential(
            self._convolution(first, first, groups, False, **factory), nn.BatchNorm2d(first, **factory)
        )
        self.path2 = nn.Sequential(
            nn.Conv2d(first, second, 1, bias=False, **factory),
            nn.BatchNorm2d(second, **factory),
            nn.ReLU(inplace=True),
            self._convolution(second, second, second_groups, False, **factory),
            nn.BatchNorm2d(second, **factory),
        )
        self.restore: nn.Module = nn.Identity()
        if restore_width:
            widen = nn.Conv2d(first + second, out_channels, 1, bias=False, **factory)
            self.restore = nn.Sequential(nn.ReLU(inplace=True), widen)
        self.out_channels = out_channels if restore_width else first + second
        self.register_parameter("bias", None)
        self.reset_parameters()

    def _check_widths(self, num_splits: int) -> None:
        if self.in_channels != self.out_channels:
            raise ValueError(
                f"out_channels={self.out_channels}: must equal in_channels={self.in_channels}, "
                "since SlimConv2d folds one width"
            )
        if self.in_channels < GATE_REDUCTION:
            raise ValueError(f"in_channels={self.in_channels}: must be at least {GATE_REDUCTION}, the gate's reduction")
        require_whole("num_splits", num_splits, least=2)
        if 2 * num_splits > self.in_channels:
            raise ValueError(f"num_splits={num_splits}: must be at most in_channels/2 = {self.in_channels // 2}")

    def _check_groups(self, second_path_groups: int | None) -> None:
        first, second = self.in_channels // self.num_splits, self.in_channels // (2 * self.num_splits)
        if second_path_groups is not None:
            require_divisor("groups", self.groups, first_path_channels=first)
            require_divisor("second_path_groups", second_path_groups, second_path_channels=second)
        elif not self._halved_groups_fit(self.num_splits):
            fitting = [str(n) for n in range(2, self.in_channels // 2 + 1) if self._halved_groups_fit(n)]
            advice = f"num_splits={' or '.join(fitting)}" if fitting else "groups=1"
            raise ValueError(
                f"groups={self.groups}: must divide the first path's in_channels//num_splits = {first} channels, and "
                f"half of them the second path's {second}; {advice} would fit"
            )

    def _halved_groups_fit(self, num_splits: int) -> bool:
        first, second = self.in_channels // num_splits, self.in_channels // (2 * num_splits)
        return first % self.groups == 0 and second % max(1, self.groups // 2) == 0

    def reset_parameters(self) -> None:
        """Kaiming normal fan-out for all weights, the gate's too, as the authors' models do."""
        reset_to_kaiming_fan_out(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W')."""
        if native := native_library(self, x):
            return (training_step if self.training else inference)(native, self, x)
        weights = self.gate(x.mean((2, 3), keepdim=True))[:, :, 0, 0]  # (N, i)
        y1 = self.path1(sum_of_parts(x, weights, self.num_splits))
        y2 = self.path2(sum_of_parts(x, weights.flip(1), self.num_splits))
        return self.restore(concatenate(y1, y2))

    def _fold_batch_norms(self) -> None:
        self.gate, self.path1, self.path2 = (folded_sequence(path) for path in (self.gate, self.path1, self.path2))

    @staticmethod
    def from_authors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename ``fc``, ``conv2_1`` and ``conv2_2`` to what they are: the gate and the two paths."""
        return rename_prefixes(state_dict, {"fc": "gate", "conv2_1": "path1", "conv2_2": "path2"})


def _gate(channels: int, **factory: Any) -> nn.Sequential:
    """Map the channels' means, (N, i, 1, 1), to weights between 0 and 1 of the same shape."""
    hidden = channels // GATE_REDUCTION
    return nn.Sequential(
        nn.Conv2d(channels, hidden, 1, bias=False, **factory),
        nn.BatchNorm2d(hidden, **factory),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, channels, 1, **factory),
        nn.Sigmoid(),
    )
