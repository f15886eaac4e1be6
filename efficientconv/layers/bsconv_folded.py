"""BSConv for inference, with the norm behind it in its depthwise convolution."""

from __future__ import annotations

from torch import Tensor, nn

from efficientconv.layers.batch_norm import rescaled
from efficientconv.layers.bsconv_native import inference, native_folded_library
from efficientconv.layers.cpu_forms import has_hooks
from efficientconv.layers.ending import Ending
from efficientconv.layers.folded_form import FoldedForm
from efficientconv.native import Library


def are_convolutions(layer: nn.Module) -> bool:
    """Tell whether ``layer`` is torch's own convolutions one behind the other, and nobody is called when it is."""
    parts = list(layer.modules())
    return all(type(part) in (nn.Conv2d, nn.Identity) for part in parts[1:]) and not any(map(has_hooks, parts))


class FoldedBSConv(FoldedForm):
    """``dw(pw(x))``, or BSConv-S's ``dw(pw2(pw1(x)))``; ReLU and shortcut as any folded form.

    Args:
        layer: BSConv-U or BSConv-S with its batch norms folded; its convolutions become this module's.
    """

    dw: nn.Conv2d

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        convolutions = {name: conv for name, conv in layer.named_children() if isinstance(conv, nn.Conv2d)}
        for name, conv in convolutions.items():
            self.add_module(name, conv)
        self.names = tuple(name for name in convolutions if name != "dw")

    @property
    def pointwise(self) -> list[nn.Conv2d]:
        """The 1×1 convolutions, in their order."""
        return [getattr(self, name) for name in self.names]

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
