import copy

import pytest
import torch
from torch import Tensor, nn

from efficientconv.layers.affine import as_image
from efficientconv.layers.measured_norm import MeasuredNorm


def norm_and_images(momentum: float | None = 0.1) -> tuple[nn.BatchNorm2d, Tensor]:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3, momentum=momentum, dtype=torch.float64)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.uniform_(norm.bias)
    return norm, torch.randn(4, 3, 5, 2, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_scale_shift_and_running_statistics_are_the_norms(momentum):
    norm, x = norm_and_images(momentum)
    twin = copy.deepcopy(norm)
    for images in (x, x * 3 + 2):
        measured, expected = MeasuredNorm.of(norm, images), twin(images)
    torch.testing.assert_close(images * as_image(measured.scale) + as_image(measured.shift), expected)
    for name, buffer in twin.named_buffers():
        torch.testing.assert_close(norm.get_buffer(name), buffer)


def test_variance_survives_a_large_mean():
    y = torch.randn(8, 4, 16, 16) + 1e4
    exact = (y.double().var((0, 2, 3), correction=0) + 1e-5).rsqrt()
    torch.testing.assert_close(MeasuredNorm.of(nn.BatchNorm2d(4), y).rstd.double(), exact, rtol=1e-4, atol=0)


@torch.no_grad()
def test_gradients_are_the_norms():
    norm, x = norm_and_images()
    grad = torch.randn_like(x)
    with torch.enable_grad():
        expected = torch.autograd.grad(norm(x), (x, norm.weight, norm.bias), grad)
    measured = MeasuredNorm.of(norm, x)
    by_shift = grad.sum((0, 2, 3))
    by_weight, slope, constant = measured.backward((grad * x).sum((0, 2, 3)), by_shift, x.numel() // 3)
    by_x = grad * as_image(measured.scale) + x * as_image(slope) + as_image(constant)
    torch.testing.assert_close((by_x, by_weight, by_shift), expected)


@torch.no_grad()
def test_gradients_of_a_gated_norm_are_autograds():
    norm, y = norm_and_images()
    grad = torch.randn_like(y)
    with torch.enable_grad():
        normalized = norm(y)
        product = normalized * as_image(normalized.mean((2, 3)).square())
        expected = torch.autograd.grad(product, (y, norm.weight, norm.bias), grad)
    measured = MeasuredNorm.of(norm, y)
    by_scale, by_shift = by_gated = (grad * y).sum((2, 3)), grad.sum((2, 3))
    means = y.mean((2, 3))
    squared = means * measured.scale + measured.shift
    by_means = 2 * squared * (by_scale * measured.scale + by_shift * measured.shift)
    found = measured.gated_backward(grad, y, by_gated, squared.square(), means, by_means)
    torch.testing.assert_close(found, expected)
