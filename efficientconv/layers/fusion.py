"""How two feature maps become one without parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from efficientconv.layers.affine import affine_sum, is_lazy, means_and_affine


def softmax_fusion(y1: Tensor, y2: Tensor) -> Tensor:
    """Return β₁·y₁ + β₂·y₂ with (β₁, β₂) = softmax(mean y₁, mean y₂) for each image and channel; all (N, C, H, W)."""
    beta1, beta2 = torch.stack((y1.mean((2, 3)), y2.mean((2, 3)))).softmax(0).to(y1.dtype)  # (N, C) each
    return affine_sum((y1, beta1), (y2, beta2))


def softmax_fusion_of_norms(y1: Tensor, norm1: nn.Module, y2: Tensor, norm2: nn.Module) -> Tensor:
    """Return ``softmax_fusion(norm1(y1), norm2(y2))``."""
    if not (is_lazy(norm1, y1) and is_lazy(norm2, y2)):
        return softmax_fusion(norm1(y1), norm2(y2))
    means1, scale1, shift1 = means_and_affine(norm1, y1)
    means2, scale2, shift2 = means_and_affine(norm2, y2)
    beta1, beta2 = torch.stack((means1, means2)).softmax(0)  # (N, C) each
    return affine_sum((y1, beta1 * scale1), (y2, beta2 * scale2), shift=beta1 * shift1 + beta2 * shift2)
