"""GhostConv for inference, with the norm behind it in it.

The ghosts take the norm into their kernels. The intrinsic channels cannot: the cheap kernels read them too, and the
padding's zeros with them. They are scaled and shifted where they are written.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from efficientconv.layers.batch_norm import rescaled, rescaled_shift
from efficientconv.layers.ending import Ending
from efficientconv.layers.folded_form import FoldedForm
from efficientconv.layers.ghost_native import inference, native_library
from efficientconv.layers.native_form import is_inference
from efficientconv.native import Library

if TYPE_CHECKING:
    from efficientconv.layers.ghost import GhostConv2d


class FoldedGhost(FoldedForm):
    """``concat(scale·primary(x) + shift, cheap(primary(x)))``.

    Args:
        layer: with its batch norms folded; it stays as it is.
    """

    shift: Tensor | None
    """Of the norm that was taken over, (a,); None for none."""

    def __init__(self, layer: GhostConv2d) -> None:
        super().__init__()
        self.primary, self.cheap = copy.deepcopy(layer.primary), copy.deepcopy(layer.cheap)
        self.out_channels = layer.out_channels
        self.register_buffer("shift", None)

    def _native(self, x: Tensor) -> Library | None:
        return native_library(self, x) if is_inference(self, x) else None

    def _in_cpp(self, native: Library, x: Tensor, ending: Ending) -> Tensor:
        return inference(native, self, x, self._scale_of_intrinsic(), self.shift, ending)

    def _by_operators(self, x: Tensor) -> Tensor:
        intrinsic = self.primary(x)  # (N, a, H', W')
        ghosts = self.cheap(intrinsic)[:, : self.out_channels - intrinsic.shape[1]]
        if (scale := self._scale_of_intrinsic()) is not None:
            intrinsic = intrinsic * scale.view(-1, 1, 1)
        if self.shift is not None:
            intrinsic = intrinsic + self.shift.view(-1, 1, 1)
        return torch.cat((intrinsic, ghosts), 1)

    def _scale_of_intrinsic(self) -> Tensor | None:
        return None if self.scale is None else self.scale[: self.primary.out_channels]

    def _rescale(self, scale: Tensor, shift: Tensor | None) -> None:
        intrinsic = self.primary.out_channels
        unused = (0, intrinsic + self.cheap.out_channels - self.out_channels)  # ghosts that are dropped
        shifts = None if shift is None else F.pad(shift[intrinsic:], unused)
        self.cheap = rescaled(self.cheap, F.pad(scale[intrinsic:], unused), shifts)
        self.shift = rescaled_shift(self.shift, scale[:intrinsic], None if shift is None else shift[:intrinsic])
