"""Grey images in one channel, as they are, or in three equal ones, for networks that take colours."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from efficientconv.errors import UserError


def require_channels(channels: Any) -> None:
    """Refuse ``data.channels=channels`` unless it is 1 or 3.

    Raises:
        UserError: it is not.
    """
    if channels not in (1, 3):
        raise UserError(f"data.channels={channels}: must be 1, the grey images as they are, or 3, three equal ones")


def in_channels(images: Tensor, channels: int) -> Tensor:
    """Give grey ``images`` (N, H, W) as many equal channels: (N, channels, H, W)."""
    return images.unsqueeze(1).repeat(1, channels, 1, 1)
