"""BSConv for inference, with the norm behind it in its depthwise convolution."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from torch import Tensor, nn

from efficientconv.layers.batch_norm import rescaled
from efficientconv.layers.bsconv_native import inference, native_folded_library
from efficientconv.layers.ending import Ending
from efficientconv.layers.folded_form import FoldedForm
from efficientconv.native import Library

if TYPE_CHECKING:
    from efficientconv.layers.bsconv import BSConvS, BSConvU


class FoldedBSConv(FoldedForm):
    """``dw(pw(x))``, or BSConv-S's ``dw(pw2(pw1(x)))``.

    Args:
        layer: with its batch norms folded; it stays as it is.
    """

    def __init__(self, layer: BSConvU | BSConvS) -> None:
        super().__init__()
        for name, conv in layer.named_children():
            if isinstance(conv, nn.Conv2d):
                self.add_module(name, copy.deepcopy(conv))
        self.dw: nn.Conv2d

    @property
    def pointwise(self) -> list[nn.Conv2d]:
        """The 1×1 convolutions, in their order."""
        return [conv for conv in self._modules.values() if isinstance(conv, nn.Conv2d) and conv is not self.dw]

    def _native(self, x: Tensor) -> Library | None:
        return native_folded_library(self, x)

    def _in_cpp(self, native: Library, x: Tensor, ending: Ending) -> Tensor:
        return inference(native, self, x, ending)

    def _by_operators(self, x: Tensor) -> Tensor:
        for conv in self.pointwise:
            x = conv(x)
        return self.dw(x)

    def _rescale(self, scale: Tensor, shift: Tensor | None) -> None:
        self.dw = rescaled(self.dw, scale, shift)
