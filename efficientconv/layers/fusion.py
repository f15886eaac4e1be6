"""How two feature maps become one without parameters."""

from __future__ import annotations

import torch
from torch import Tensor


def softmax_fusion(y1: Tensor, y2: Tensor) -> Tensor:
    """Return β₁·y₁ + β₂·y₂ with (β₁, β₂) = softmax(mean y₁, mean y₂) for each image and channel; all (N, C, H, W)."""
    means = torch.stack((y1.mean((2, 3), keepdim=True), y2.mean((2, 3), keepdim=True)))  # (2, N, C, 1, 1)
    beta1, beta2 = means.softmax(0).to(y1.dtype)
    return beta1 * y1 + beta2 * y2
