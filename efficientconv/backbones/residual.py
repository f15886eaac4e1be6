"""Residual units: K. He et al., Deep Residual Learning, CVPR 2016 (arXiv 1512.03385), and Identity Mappings, ECCV 2016.

In the pre-activation units (arXiv 1603.05027) a projection sees the activated input, an identity the raw one.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from efficientconv.backbones.staged import conv_norm


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
    """conv(ReLU(norm(conv(a)))) + shortcut with a = ReLU(norm(x)), both convolutions 3×3.

    The shortcut is x, or a 1×1 convolution of a where the shape changes.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.preactivation = norm_activation(in_channels)
        self.conv1 = conv_norm(in_channels, out_channels, 3, stride)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.projection = projection(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, ⌈H/stride⌉, ⌈W/stride⌉)``."""
        activated = self.preactivation(x)
        shortcut = x if self.projection is None else self.projection(activated)
        return self.conv2(self.conv1(activated)) + shortcut


def norm_activation(channels: int) -> nn.Sequential:
    """Return a batch norm and a ReLU."""
    block = nn.Sequential()
    block.add_module("norm", nn.BatchNorm2d(channels))
    block.add_module("activation", nn.ReLU(inplace=True))
    return block


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Conv2d | None:
    """Return the 1×1 convolution without norm of a shortcut that changes the shape, else None."""
    if in_channels == out_channels and stride == 1:
        return None
    return nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
