"""Residual units: K. He et al., Deep Residual Learning, CVPR 2016 (arXiv 1512.03385), and Identity Mappings, ECCV 2016.

In the pre-activation units (arXiv 1603.05027) a projection sees the activated input, an identity the raw one.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from efficientconv.backbones.staged import conv_norm, named_sequence, norm_activation


class PaddedShortcut(nn.Module):
    """Option A: every ``stride``-th pixel, zeros for the channels that are new. No parameters.

    Raises:
        ValueError: fewer output than input channels.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        if out_channels < in_channels:
            raise ValueError(f"out_channels={out_channels}: a padded shortcut needs at least in_channels={in_channels}")
        self.stride = stride
        self.new_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, ⌈H/stride⌉, ⌈W/stride⌉)``."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))


class BasicUnit(nn.Module):
    """ReLU(norm(conv(ReLU(norm(conv(x))))) + shortcut(x)), both convolutions 3×3."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv1 = conv_norm(in_channels, out_channels, 3, stride)
        self.conv2 = conv_norm(out_channels, out_channels, 3, activation=None)
        self.shortcut = shortcut
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, ⌈H/stride⌉, ⌈W/stride⌉)``."""
        return self.activation(self.conv2(self.conv1(x)) + self.shortcut(x))


def basic_unit_a(in_channels: int, out_channels: int, stride: int) -> BasicUnit:
    """Return a unit with option-A shortcut: padded with zeros where the shape changes."""
    changes = in_channels != out_channels or stride != 1
    shortcut = PaddedShortcut(in_channels, out_channels, stride) if changes else nn.Identity()
    return BasicUnit(in_channels, out_channels, stride, shortcut)


def basic_unit_b(in_channels: int, out_channels: int, stride: int) -> BasicUnit:
    """Return a unit with option-B shortcut: a 1×1 convolution and its norm where the shape changes."""
    changes = in_channels != out_channels or stride != 1
    shortcut = conv_norm(in_channels, out_channels, 1, stride, activation=None) if changes else nn.Identity()
    return BasicUnit(in_channels, out_channels, stride, shortcut)


class PreActUnit(nn.Module):
    """branch(a) + shortcut with a = ReLU(norm(x)): the shortcut is x, or a 1×1 convolution of a to another shape."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, branch: nn.Module) -> None:
        super().__init__()
        self.preactivation = norm_activation(in_channels)
        self.branch = branch
        keeps_shape = in_channels == out_channels and stride == 1
        self.projection = None if keeps_shape else nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, ⌈H/stride⌉, ⌈W/stride⌉)``."""
        activated = self.preactivation(x)
        shortcut = x if self.projection is None else self.projection(activated)
        return self.branch(activated) + shortcut


def preact_basic_unit(in_channels: int, out_channels: int, stride: int) -> PreActUnit:
    """Return a pre-activation unit of two 3×3 convolutions."""
    branch = named_sequence(
        conv1=conv_norm(in_channels, out_channels, 3, stride),
        conv2=nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
    )
    return PreActUnit(in_channels, out_channels, stride, branch)


def preact_bottleneck(in_channels: int, out_channels: int, stride: int) -> PreActUnit:
    """Return a pre-activation unit of a 1×1, a 3×3 and a 1×1 convolution, the first two a quarter as wide."""
    mid_channels = out_channels // 4
    branch = named_sequence(
        conv1=conv_norm(in_channels, mid_channels, 1),
        conv2=conv_norm(mid_channels, mid_channels, 3, stride),
        conv3=nn.Conv2d(mid_channels, out_channels, 1, bias=False),
    )
    return PreActUnit(in_channels, out_channels, stride, branch)
