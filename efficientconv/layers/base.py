"""The contract that every convolution variant keeps: ``nn.Conv2d``'s place, signature and output size.

A variant is a class with ``nn.Conv2d``'s own signature followed by keyword-only hyper-parameters, so that
``functools.partial(Variant, alpha=0.5)`` can stand wherever ``nn.Conv2d`` stands.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

Size2 = int | tuple[int, int]
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class ConvVariant(nn.Module, ABC):
    """Abstract base of the layers that replace ``nn.Conv2d``; leaves are concrete and never subclassed.

    ``forward`` maps ``(N, in_channels, H, W)`` to ``(N, out_channels, H', W')``, with H' and W' exactly those of the
    ``nn.Conv2d`` of the same geometry.

    Args:
        in_channels: channels of the input.
        out_channels: channels really produced.
        kernel_size: height and width of the kernel, in pixels.
        stride: of the output grid, in input pixels.
        padding: added to each side, in pixels (a number or a pair; not a word).
        dilation: distance of the kernel's taps, in pixels.
        groups: blocks of connections from inputs to outputs.
        padding_mode: ``zeros``, ``reflect``, ``replicate`` or ``circular``.

    Raises:
        ValueError: a geometry that no convolution has.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size2,
        stride: Size2 = 1,
        padding: Size2 = 0,
        dilation: Size2 = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size: tuple[int, int] = _pair(kernel_size)
        self.stride: tuple[int, int] = _pair(stride)
        self.padding: tuple[int, int] = _pair(padding)
        self.dilation: tuple[int, int] = _pair(dilation)
        self.groups = groups
        self.padding_mode = padding_mode
        self._check_geometry()

    def _check_geometry(self) -> None:
        for name in ("in_channels", "out_channels", "groups"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        for name, least in (("kernel_size", 1), ("stride", 1), ("dilation", 1), ("padding", 0)):
            value = getattr(self, name)
            if any(not isinstance(v, int) or v < least for v in value):
                raise ValueError(f"{name}={value}: two whole numbers of at least {least} are needed")
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise ValueError(f"groups={self.groups}: must divide {name}={getattr(self, name)}")
        if self.padding_mode not in PADDING_MODES:
            raise ValueError(f"padding_mode={self.padding_mode!r}: must be one of {', '.join(PADDING_MODES)}")

    def _require_same_padding(self) -> None:
        """For layers with pooled or 1×1 side branches: their output is ceil(H/s), the main branch's must be too."""
        for k, p, d in zip(self.kernel_size, self.padding, self.dilation, strict=True):
            if 2 * p != d * (k - 1):
                fitting = f"padding={d * (k - 1) // 2} would fit" if d * (k - 1) % 2 == 0 else "an odd kernel would fit"
                raise ValueError(
                    f"padding={self.padding}: {type(self).__name__} needs 2·padding = dilation·(kernel_size − 1), "
                    f"with kernel_size={self.kernel_size} and dilation={self.dilation}; {fitting}"
                )

    def _require_dense(self) -> None:
        if self.groups != 1:
            raise ValueError(f"groups={self.groups}: {type(self).__name__} is defined for groups=1 only")

    @abstractmethod
    def reset_parameters(self) -> None:
        """Initialise every parameter and buffer as the paper's code does, also after ``to_empty``."""

    @abstractmethod
    def fold(self) -> nn.Module:
        """Return a new module for inference that computes the same in eval mode, to 1e-5 in float32."""

    def regularization_loss(self) -> Tensor:
        """Return the paper's penalty on this layer's weights, a scalar; zero where the paper has none."""
        return torch.zeros(())

    @staticmethod
    @abstractmethod
    def from_authors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Map the keys of the authors' layer, relative to it, to this layer's."""

    def extra_repr(self) -> str:
        """Show the geometry as ``nn.Conv2d`` does."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        for name, default in (("padding", (0, 0)), ("dilation", (1, 1)), ("groups", 1), ("padding_mode", "zeros")):
            if getattr(self, name) != default:
                text += f", {name}={getattr(self, name)}"
        return text


def regularization_loss(model: nn.Module) -> Tensor:
    """Sum the penalties of all convolution variants in ``model``: a scalar, zero where there is none."""
    losses = [module.regularization_loss() for module in model.modules() if isinstance(module, ConvVariant)]
    return torch.stack(losses).sum() if losses else torch.zeros(())
