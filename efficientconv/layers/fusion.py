"""How two feature maps become one without parameters."""

from __future__ import annotations

from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from efficientconv.layers.affine import affine_sum, as_image, is_lazy, means_and_affine
from efficientconv.layers.cpu_forms import runs_in_cpu_form
from efficientconv.layers.measured_norm import MeasuredNorm


def softmax_fusion(y1: Tensor, y2: Tensor) -> Tensor:
    """Return β₁·y₁ + β₂·y₂ with (β₁, β₂) = softmax(mean y₁, mean y₂) for each image and channel; all (N, C, H, W)."""
    if runs_in_cpu_form(y1):
        return _Fusion.apply(y1, y2)
    means = torch.stack((y1.mean((2, 3), keepdim=True), y2.mean((2, 3), keepdim=True)))  # (2, N, C, 1, 1)
    beta1, beta2 = means.softmax(0).to(y1.dtype)
    return beta1 * y1 + beta2 * y2


class _Fusion(Function):
    @staticmethod
    def forward(ctx: Any, y1: Tensor, y2: Tensor) -> Tensor:  # type: ignore[override]
        difference = y1.mean((2, 3)) - y2.mean((2, 3))
        beta1, beta2 = torch.sigmoid(difference), torch.sigmoid(-difference)  # (N, C)
        ctx.save_for_backward(y1, y2, beta1, beta2)
        return (y1 * as_image(beta1)).addcmul_(y2, as_image(beta2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        y1, y2, beta1, beta2 = ctx.saved_tensors
        by_beta = (grad * y1).sum((2, 3)) - (grad * y2).sum((2, 3))  # of the first; the second's is the opposite
        by_mean = as_image(by_beta * beta1 * beta2 / (y1.shape[2] * y1.shape[3]))
        return torch.addcmul(by_mean, grad, as_image(beta1)), torch.addcmul(-by_mean, grad, as_image(beta2))


def softmax_fusion_of_norms(y1: Tensor, norm1: nn.Module, y2: Tensor, norm2: nn.Module) -> Tensor:
    """Return ``softmax_fusion(norm1(y1), norm2(y2))``, without writing what is normalised.

    The means of ``norm(y) = a·y + b`` are ``a·mean y + b``, and β·norm(y) is (β·a)·y + β·b: one pass for each term.
    With this, and products for its 1×1s, SPConv, forward and backward, is 1.4 times as fast with 16 channels at 32×32,
    1.2 with 32 at 16×16 and 1.1 with 64 at 8×8; ResNet-20 with it trains 1.3 times as fast. In training the gradient
    has no gradient.
    """
    if not (is_lazy(norm1, y1) and is_lazy(norm2, y2)):
        return softmax_fusion(norm1(y1), norm2(y2))
    if norm1.training and norm2.training:
        return _FusionOfNorms.apply(norm1, norm2, y1, norm1.weight, norm1.bias, y2, norm2.weight, norm2.bias)
    means1, scale1, shift1 = means_and_affine(norm1, y1)
    means2, scale2, shift2 = means_and_affine(norm2, y2)
    beta1, beta2 = torch.stack((means1, means2)).softmax(0)  # (N, C) each
    return affine_sum((y1, beta1 * scale1), (y2, beta2 * scale2), shift=beta1 * shift1 + beta2 * shift2)


class _FusionOfNorms(Function):
    @staticmethod
    def forward(ctx: Any, module1: nn.BatchNorm2d, module2: nn.BatchNorm2d, *tensors: Tensor) -> Tensor:  # type: ignore[override]
        y1, y2 = tensors[::3]
        norm1, norm2 = MeasuredNorm.of(module1, y1), MeasuredNorm.of(module2, y2)
        means1, means2 = y1.mean((2, 3)), y2.mean((2, 3))
        normalized1 = torch.addcmul(norm1.shift, means1, norm1.scale)
        normalized2 = torch.addcmul(norm2.shift, means2, norm2.scale)
        beta1, beta2 = torch.sigmoid(normalized1 - normalized2), torch.sigmoid(normalized2 - normalized1)  # (N, C)
        ctx.save_for_backward(y1, y2, means1, means2, beta1, beta2, *norm1, *norm2)
        shift = torch.addcmul(beta1 * norm1.shift, beta2, norm2.shift)
        y = torch.addcmul(as_image(shift), y1, as_image(beta1 * norm1.scale))
        return y.addcmul_(y2, as_image(beta2 * norm2.scale))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        saved = iter(ctx.saved_tensors)
        y1, y2, means1, means2, beta1, beta2 = islice(saved, 6)
        norm1, norm2 = MeasuredNorm(*islice(saved, 4)), MeasuredNorm(*saved)
        by_shift = grad.sum((2, 3))
        by_gated1, by_gated2 = ((grad * y1).sum((2, 3)), by_shift), ((grad * y2).sum((2, 3)), by_shift)
        by_beta1, by_beta2 = (
            torch.addcmul(by_shift * norm.shift, by_scale, norm.scale)
            for norm, (by_scale, _) in ((norm1, by_gated1), (norm2, by_gated2))
        )
        by_means = (by_beta1 - by_beta2) * beta1 * beta2  # of the first; the second's is the opposite
        by_first = norm1.gated_backward(grad, y1, by_gated1, beta1, means1, by_means)
        by_second = norm2.gated_backward(grad, y2, by_gated2, beta2, means2, -by_means)
        return None, None, *by_first, *by_second
