"""Squeeze and excitation: a weight for each channel, made from the means of all (Hu et al., arXiv:1709.01507)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class SqueezeExcitation(nn.Module):
    """``x·sigmoid(W₂·ReLU(W₁·mean(x) + b₁) + b₂)``, channel by channel.

    Args:
        channels: C, of the input and the output.
        hidden: width between the two linear maps.
        factory: device and dtype of the parameters.
    """

    def __init__(self, channels: int, hidden: int, **factory: Any) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden, **factory)
        self.fc2 = nn.Linear(hidden, channels, **factory)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return x * self.weights(x.mean((2, 3)))[:, :, None, None]

    @torch.no_grad()
    def rest(self) -> None:
        """Let all weights be 1/2, whatever the means, until training moves the second linear map away from zero."""
        self.fc2.weight.zero_()
        self.fc2.bias.zero_()

    def weights(self, means: Tensor) -> Tensor:
        """Map what describes the channels, (N, C), to their weights between 0 and 1, (N, C)."""
        return torch.sigmoid(self.fc2(torch.relu(self.fc1(means))))
