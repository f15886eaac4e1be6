"""What a side branch without a k×k convolution does where the convolution strides."""

from __future__ import annotations

from torch import nn


def stride_pooling(stride: tuple[int, int]) -> nn.Module:
    """Return the average over each s×s window, (N, C, H, W) → (N, C, ⌈H/s⌉, ⌈W/s⌉); at stride 1 the identity.

    A window that the border cuts is averaged over the pixels it has. The papers' code drops such windows
    (``AvgPool2d(2, 2)``), and then fails where H is odd, since the convolution beside it rounds up.
    """
    if stride == (1, 1):
        return nn.Identity()
    window = stride[0] if stride[0] == stride[1] else stride  # a number as in the papers' code: thop2020 reads it
    return nn.AvgPool2d(window, ceil_mode=True)
