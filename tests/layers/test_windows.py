import pytest
import torch
from torch.nn import functional as F

from efficientconv.layers.windows import Windows, kernel_of_windows, mean_of_windows
from efficientconv.native import library

native = pytest.mark.skipif(library("spconv") is None, reason="there is no C++ compiler")


def images(channels: int) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(2, channels, 6, 8).contiguous(memory_format=torch.channels_last)


@native
def test_gathers_pixels_and_means():
    x = torch.arange(1.0, 5).view(1, 1, 2, 2).expand(1, 16, 2, 2) + 10 * torch.arange(16.0).view(1, 16, 1, 1)
    y = Windows((2, 2), 8, 2).gather(library("spconv"), x.contiguous(memory_format=torch.channels_last)).flatten()
    assert y[:8].tolist() == [1, 11, 21, 31, 2, 12, 22, 32]  # of the first group: the first pixel, the one right of it
    assert y[16:20].tolist() == [41, 51, 61, 71]  # of the second group
    assert y[32:].tolist() == [10 * c + 2.5 for c in range(8, 16)]


@native
@pytest.mark.parametrize("stride", [(2, 2), (2, 1), (3, 4)])
@pytest.mark.parametrize("groups", [1, 2, 4, 8])
def test_gradient_is_the_transpose(stride, groups):
    x = images(24).requires_grad_()
    y = Windows(stride, 8, groups).gather(library("spconv"), x)
    by_y = torch.randn_like(y)
    (by_x,) = torch.autograd.grad(y, x, by_y)
    other = images(24).flip(0).contiguous(memory_format=torch.channels_last)
    gathered = Windows(stride, 8, groups).gather(library("spconv"), other)
    torch.testing.assert_close((by_x * other).sum(), (by_y * gathered).sum(), rtol=1e-4, atol=1e-4)


@native
@pytest.mark.parametrize(
    ("size", "stride", "dilation"), [((3, 3), (2, 2), (1, 1)), ((5, 3), (2, 4), (1, 2)), ((1, 7), (1, 2), (1, 1))]
)
def test_convolution_of_windows_is_the_strided_one(size, stride, dilation):
    x, weight = images(16), torch.randn(4, 4, *size)  # of 8 channels in 2 groups
    padding = [d * (k // 2) for k, d in zip(size, dilation, strict=True)]
    expected = F.conv2d(x[:, :8], weight, None, stride, padding, dilation, groups=2)
    kernel = kernel_of_windows(weight, stride, dilation)
    windows = Windows(stride, 8, 2).gather(library("spconv"), x)[:, : 8 * stride[0] * stride[1]]
    found = F.conv2d(windows, kernel, padding=[k // 2 for k in kernel.shape[2:]], groups=2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@native
def test_1x1_of_windows_is_that_of_their_means():
    x, weight = images(16), torch.randn(4, 8, 1, 1)
    windows = Windows((2, 2), 8, 2).gather(library("spconv"), x)[:, :32]
    found = F.conv2d(windows, mean_of_windows(weight, (2, 2), 2))
    torch.testing.assert_close(found, F.conv2d(F.avg_pool2d(x[:, :8], 2), weight), rtol=1e-4, atol=1e-5)
