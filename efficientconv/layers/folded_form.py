"""What a layer that is no single convolution becomes for inference: few operators, into whose last a norm can go."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from efficientconv.layers.ending import Ending
from efficientconv.native import Library

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on

DENSE_WIDTH = 64
"""Widest layer whose grouped kernels become dense ones when it folds.

oneDNN's narrow groups are slow, and each further operator costs a pass or, with one image, a call. A dense kernel has
more multiply-adds, and is one operator. With half of the channels, 2 groups and a 1×1, against the dense kernel, on one
core of a Xeon with AVX-512, torch 2.14, the time is 1.8, 1.1 and 0.9 times as long with 64 images of 16, 32 and 64
channels at 32×32 to 8×8, and 1.4 and 2.5 with one image of 16 and 64; with 128 and 256 at 14×14 it is 0.8 and 0.7.
"""


def is_narrow(in_channels: int, out_channels: int) -> bool:
    """Tell whether a layer of these widths runs faster with dense kernels."""
    return max(in_channels, out_channels) <= DENSE_WIDTH


class FoldedForm(nn.Module, ABC):
    """Abstract base of the modules that ``fold()`` returns and that can take over the norm behind them."""

    scale: Tensor | None
    """Of the norm that was taken over, (C,); None for none."""

    activates: bool
    """Whether a ReLU comes last."""

    origin: Any
    """What the parameters were made of, where C++ computes with that; None where they may have become others."""

    def __init__(self) -> None:
        super().__init__()
        self.origin, self.activates = None, False
        self.register_buffer("scale", None)

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ⌈H/s⌉, ⌈W/s⌉).

        Args:
            x: the image.
            shortcut: added to the output, before the ReLU where this form ends in one.
        """
        ending = Ending(shortcut, self.activates)
        if native := self._native(x):
            y = self._in_cpp(native, x, ending)
            return y if ending.is_native(y) else ending.of(y)
        return ending.of(self._by_operators(x))

    @abstractmethod
    def _native(self, x: Tensor) -> Library | None:
        """Return what computes this form of ``x`` in one pass; None where it runs operator by operator."""

    @abstractmethod
    def _in_cpp(self, native: Library, x: Tensor, ending: Ending) -> Tensor:
        """Return the output in a new tensor; with the ending where that is native."""

    @abstractmethod
    def _by_operators(self, x: Tensor) -> Tensor:
        """Return the output in a new tensor, without an ending."""

    def train(self, mode: bool = True) -> Self:
        """As any module's; what is trained on is not made of the layer any more."""
        if mode:
            self.origin = None
        return super().train(mode)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        self.origin = None
        super()._load_from_state_dict(*arguments)

    @torch.no_grad()
    def rescaled(self, scale: Tensor, shift: Tensor | None) -> Self:
        """Return a new module that computes ``scale·self(x) + shift``.

        Args:
            scale: (C,), for each output channel.
            shift: (C,), or None for nothing to add.
        """
        result = copy.deepcopy(self)
        result.scale = scale.clone() if self.scale is None else self.scale * scale
        result._rescale(scale, shift)
        return result

    @abstractmethod
    def _rescale(self, scale: Tensor, shift: Tensor | None) -> None:
        """Change the convolutions, in place."""
