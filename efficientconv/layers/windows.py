"""A strided convolution as one at stride 1 of all pixels of each window: the same sums, among zeros."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from efficientconv.layers.native_form import by_pixels, empty_image
from efficientconv.native import Library


class Windows(NamedTuple):
    """How windows of s×s pixels become pixels of more channels.

    The representative channels keep all pixels, in the order (group, row, column, channel), the rest their mean.
    """

    stride: tuple[int, int]
    representative: int
    groups: int

    def gather(self, native: Library, x: Tensor) -> Tensor:
        """Map (N, C, H, W), channels last, whose height and width s divides, to (N, s·s·a + C − a, H/s, W/s)."""
        return _Gather.apply(self, native, x)


class _Gather(Function):
    @staticmethod
    def forward(ctx: Any, windows: Windows, native: Library, x: Tensor) -> Tensor:  # type: ignore[override]
        (rows, columns), (number, channels, height, width) = windows.stride, x.shape
        y = empty_image(x, channels + (rows * columns - 1) * windows.representative, windows.stride)
        images = (number, height // rows, width // columns)
        ctx.sizes = (*images, rows, columns, channels, windows.representative, windows.groups)
        ctx.native, ctx.shape = native, x.shape
        native.call("gather_windows", ctx.sizes, by_pixels(x), by_pixels(y))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, Tensor]:  # type: ignore[override]
        grad = grad.contiguous(memory_format=torch.channels_last)
        by_x = torch.empty(ctx.shape, dtype=grad.dtype, memory_format=torch.channels_last)
        ctx.native.call("scatter_windows", ctx.sizes, by_pixels(grad), by_pixels(by_x))
        return None, None, by_x


def kernel_of_windows(weight: Tensor, stride: tuple[int, int], dilation: tuple[int, int]) -> Tensor:
    """Return the kernel that does at stride 1 to gathered ``Windows`` what ``weight`` does at stride s to x.

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
    """Return the 1×1 kernel that does to gathered ``Windows`` what ``weight``, (o, C, 1, 1), does to the means."""
    pixels = stride[0] * stride[1]
    by_group = weight.reshape(weight.shape[0], groups, 1, -1) / pixels
    return by_group.expand(-1, -1, pixels, -1).reshape(weight.shape[0], -1, 1, 1)


def _places(size: int, stride: int, dilation: int) -> tuple[Tensor, Tensor, int]:
    """Return, for each tap in one direction, the pixel of its window and the window, and how many windows there are."""
    offsets = dilation * (torch.arange(size) - size // 2)
    pixels, windows = offsets % stride, offsets.div(stride, rounding_mode="floor")
    reach = int(windows.abs().max())
    return pixels, windows + reach, 2 * reach + 1
