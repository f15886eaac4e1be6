"""What follows a layer in a folded network and is done where its output is written: a shortcut's sum, and a ReLU."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from efficientconv.layers.native_form import by_pixels


class Ending(NamedTuple):
    """``ReLU(y + shortcut)``, or one of the two, or y.

    As operators of their own the two take a fifth of the time of ResNet-20 folded with BDRConv, 64 images on one core
    of a Xeon with AVX-512.
    """

    shortcut: Tensor | None = None
    activates: bool = False

    def is_native(self, y: Tensor) -> bool:
        """Tell whether C++ that writes y can do it: not with a shortcut of another shape or type, or for a gradient."""
        shortcut = self.shortcut
        if shortcut is None:
            return True
        needs_gradient = torch.is_grad_enabled() and shortcut.requires_grad
        return shortcut.shape == y.shape and shortcut.dtype == y.dtype and not needs_gradient

    def arguments(self, y: Tensor) -> tuple[Tensor, int]:
        """Return the shortcut and whether a ReLU comes last, as the C++ takes them; of nothing where it cannot."""
        if not self.is_native(y):
            return y.new_empty(0), 0
        if self.shortcut is None:
            return y.new_empty(0), int(self.activates)
        return by_pixels(self.shortcut.contiguous(memory_format=torch.channels_last)), int(self.activates)

    def of(self, y: Tensor) -> Tensor:
        """Return it operator by operator, in the place of y where nobody asks for a gradient."""
        if self.shortcut is not None:
            in_place = self.shortcut.shape == y.shape and self.shortcut.dtype == y.dtype and not y.requires_grad
            y = y.add_(self.shortcut) if in_place and not self.shortcut.requires_grad else y + self.shortcut
        return F.relu(y, inplace=not y.requires_grad) if self.activates else y


NOTHING = Ending()
