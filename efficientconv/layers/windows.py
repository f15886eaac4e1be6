"""A strided convolution as one at stride 1 of all pixels of each window: the same sums, among zeros."""

from __future__ import annotations

import torch
from torch import Tensor


def pixels_of_windows(x: Tensor, stride: tuple[int, int], groups: int) -> Tensor:
    """Put the s×s pixels of each window beside each other, (N, C, H, W) → (N, s·s·C, H/s, W/s), channels last.

    Args:
        x: whose height and width the stride divides.
        stride: s.
        groups: of the channels, each of which stays together: (group, row, column, channel) is the new order.
    """
    rows, columns = stride
    number, channels, height, width = x.shape
    sizes = (number, height // rows, rows, width // columns, columns, groups, channels // groups)
    pixels = x.permute(0, 2, 3, 1).reshape(sizes).permute(0, 1, 3, 5, 2, 4, 6)  # (N, H/s, W/s, g, s, s, C/g)
    return pixels.reshape(number, height // rows, width // columns, -1).permute(0, 3, 1, 2)


def kernel_of_windows(weight: Tensor, stride: tuple[int, int], dilation: tuple[int, int]) -> Tensor:
    """Return the kernel that does at stride 1 to ``pixels_of_windows`` what ``weight`` does at stride s to x.

    Args:
        weight: (o, c, k, k), odd; the image is padded to keep its size.
        stride: s.
        dilation: of ``weight``, in pixels; that of the result is 1.

    Returns:
        (o, s·s·c, k', k'), odd.
    """
    (rows, row_windows, height), (columns, column_windows, width) = (
        _places(*sizes) for sizes in zip(weight.shape[2:], stride, dilation, strict=True)
    )
    kernel = weight.new_zeros(weight.shape[0], *stride, weight.shape[1], height, width)
    kernel[:, rows[:, None], columns, :, row_windows[:, None], column_windows] = weight.permute(2, 3, 0, 1)
    return kernel.flatten(1, 3)


def mean_of_windows(weight: Tensor, stride: tuple[int, int], groups: int) -> Tensor:
    """Return the 1×1 kernel that does to ``pixels_of_windows`` what ``weight``, (o, C, 1, 1), does to the means."""
    pixels = stride[0] * stride[1]
    by_group = weight.reshape(weight.shape[0], groups, 1, -1) / pixels
    return by_group.expand(-1, -1, pixels, -1).reshape(weight.shape[0], -1, 1, 1)


def _places(size: int, stride: int, dilation: int) -> tuple[Tensor, Tensor, int]:
    """Return, for each tap in one direction, the pixel of its window and the window, and how many windows there are."""
    offsets = dilation * (torch.arange(size) - size // 2)
    pixels, windows = offsets % stride, offsets.div(stride, rounding_mode="floor")
    reach = int(windows.abs().max())
    return pixels, windows + reach, 2 * reach + 1
