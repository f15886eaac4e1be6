"""The contract that every convolution variant keeps: ``nn.Conv2d``'s place, signature and output size.

A variant is a class with ``nn.Conv2d``'s own signature followed by keyword-only hyper-parameters, so that
``functools.partial(Variant, alpha=0.5)`` can stand wherever ``nn.Conv2d`` stands.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efficientconv.layers.batch_norm import BATCH_NORMS
from efficientconv.layers.initialization import reset_to_default

Size2 = int | tuple[int, int]
PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


class ConvVariant(nn.Module, ABC):
    """Abstract base of the layers that replace ``nn.Conv2d``; leaves are concrete and never subclassed.

    ``forward`` maps ``(N, in_channels, H, W)`` to ``(N, out_channels, H', W')``, with H' and W' exactly those of the
    ``nn.Conv2d`` of the same geometry. ``bias`` is the bias of the k×k convolution, or None where the layer makes no
    parameter of it.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output; a layer that produces fewer sets the attribute to what it produces.
        kernel_size: height and width of the kernel, in pixels.
        stride: of the output grid, in input pixels.
        padding: added to each side, in pixels; ``"same"`` and ``"valid"`` are turned into pixels.
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
        padding: Size2 | str = 0,
        dilation: Size2 = 1,
        groups: int = 1,
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = whole_pair("kernel_size", kernel_size)
        self.stride = whole_pair("stride", stride)
        self.dilation = whole_pair("dilation", dilation)
        self.padding = self._padding_in_pixels(padding)
        self.groups = groups
        self.padding_mode: PaddingMode = padding_mode
        self._check_channels()
        if padding_mode not in get_args(PaddingMode):
            raise ValueError(f"padding_mode={padding_mode!r}: must be one of {', '.join(get_args(PaddingMode))}")

    def _padding_in_pixels(self, padding: Size2 | str) -> tuple[int, int]:
        if not isinstance(padding, str):
            return whole_pair("padding", padding, least=0)
        if padding == "valid":
            return 0, 0
        rows, columns = (d * (k - 1) for k, d in zip(self.kernel_size, self.dilation, strict=True))
        if padding != "same" or self.stride != (1, 1) or rows % 2 or columns % 2:
            raise ValueError(
                f"padding={padding!r}: must be 'valid', pixels, or, with stride 1 and an even "
                f"dilation·(kernel_size − 1), 'same'; stride={self.stride}, dilation·(kernel_size − 1)={rows, columns}"
            )
        return rows // 2, columns // 2

    def _check_channels(self) -> None:
        for name in ("in_channels", "out_channels", "groups"):
            require_whole(name, getattr(self, name))
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise ValueError(f"groups={self.groups}: must divide {name}={getattr(self, name)}")

    def _require_same_padding(self) -> None:
        """For layers with pooled or 1×1 side branches: their output is ceil(H/s), the main branch's must be too."""
        margins = [d * (k - 1) for k, d in zip(self.kernel_size, self.dilation, strict=True)]
        if any(2 * p != margin for p, margin in zip(self.padding, margins, strict=True)):
            odd = any(margin % 2 for margin in margins)
            fitting = "an odd kernel_size" if odd else f"padding={tuple(margin // 2 for margin in margins)}"
            raise ValueError(
                f"padding={self.padding}: {type(self).__name__} needs 2·padding = dilation·(kernel_size − 1), "
                f"with kernel_size={self.kernel_size} and dilation={self.dilation}; {fitting} would fit"
            )

    def _require_odd_kernel(self) -> None:
        """For layers whose thinner branches are the kernel's centre row, column or tap."""
        if not self._is_odd:
            rows, columns = (k | 1 for k in self.kernel_size)
            raise ValueError(
                f"kernel_size={self.kernel_size}: {type(self).__name__} needs odd kernels, which have a centre; "
                f"{rows, columns} would fit"
            )

    @property
    def _is_odd(self) -> bool:
        return all(k % 2 for k in self.kernel_size)

    def _require_stride_1(self) -> None:
        """For layers that hand channels through, which have no other resolution than the input's."""
        if self.stride != (1, 1):
            raise ValueError(
                f"stride={self.stride}: {type(self).__name__} hands channels through as they are; 1 would fit"
            )

    def _require_dense(self) -> None:
        if self.groups != 1:
            raise ValueError(f"groups={self.groups}: {type(self).__name__} is defined for groups=1 only")

    def _convolution(
        self, in_channels: int, out_channels: int, groups: int, bias: bool, stride: Size2 | None = None, **factory: Any
    ) -> nn.Conv2d:
        """Make a convolution of this layer's geometry for one of its branches; by default with its stride."""
        return nn.Conv2d(
            in_channels,
            out_channels,
            self.kernel_size,
            self.stride if stride is None else stride,
            self.padding,
            self.dilation,
            groups,
            bias,
            self.padding_mode,
            **factory,
        )

    def convolution_of(self, weight: Tensor, bias: Tensor | None, stride: Size2 | None = None) -> nn.Conv2d:
        """Return an ordinary convolution of this layer's geometry, for ``fold``.

        Args:
            weight: (out_channels, in_channels/groups, k, k), of this layer's groups.
            bias: (out_channels,), or None.
            stride: by default this layer's.
        """
        out_channels, in_channels = len(weight), weight.shape[1] * self.groups
        factory: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
        conv = self._convolution(in_channels, out_channels, self.groups, bias is not None, stride, **factory)
        conv.load_state_dict({"weight": weight} if bias is None else {"weight": weight, "bias": bias})
        return conv

    def _convolve(
        self, x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Size2 = 1, groups: int = 1
    ) -> Tensor:
        """Convolve with a weight of this layer's kernel size, with its padding, padding mode and dilation."""
        padding = self.padding
        if self.padding_mode != "zeros":
            rows, columns = padding
            x, padding = F.pad(x, (columns, columns, rows, rows), mode=self.padding_mode), (0, 0)
        return F.conv2d(x, weight, bias, stride, padding, self.dilation, groups)

    def _convolve_per_image(self, x: Tensor, kernels: Tensor, bias: Tensor | None = None) -> Tensor:
        """Convolve each image with its own kernel, at once: N images of g groups are one image of N·g groups.

        Args:
            x: (N, C_in, H, W).
            kernels: (N, C_out, C_in/groups, k_h, k_w).
            bias: (N, C_out), or None.
        """
        images, out_channels = kernels.shape[:2]
        flat_bias = None if bias is None else bias.flatten()
        one = x.reshape(1, -1, *x.shape[2:])
        y = self._convolve(one, kernels.flatten(0, 1), flat_bias, self.stride, images * self.groups)
        y = y.reshape(-1, out_channels, *y.shape[2:])
        if x.is_contiguous(memory_format=torch.channels_last):
            return y.contiguous(memory_format=torch.channels_last)  # or every layer behind would have to reorder it
        return y

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W')."""

    def reset_parameters(self) -> None:
        """Initialise every parameter and buffer as the paper's code does, here torch's default."""
        reset_to_default(self)

    def approximate(self, weight: Tensor, bias: Tensor | None = None) -> float | None:
        """Set the parameters so that this layer begins near an ordinary convolution of its geometry, where it can.

        What a layer has beside its linear part is set so that it begins by doing nothing: batch norms hand their input
        through in eval mode, gates rest at one value for all images.

        Args:
            weight: K of that convolution, (out_channels, in_channels/groups, k, k).
            bias: of that convolution, (out_channels,), or None.

        Returns:
            ‖K − K̂‖/‖K‖, where K̂ is this layer's kernel: its derivative where the input is zero, in eval mode. None
            where there is no sensible approximation: the layer then keeps its initialisation. By default there is none.
        """
        return None

    def settle(self) -> None:
        """Balance what depends on the statistics of this layer's batch norms, once these are known; by default nothing.

        Called after ``approximate``, when the batch norms inside have seen images and compute the same as before.
        """

    def fold(self) -> nn.Module:
        """Return a new module for inference that computes the same in eval mode, to 1e-5 in float32."""
        folded = copy.deepcopy(self).eval()
        if any(isinstance(module, BATCH_NORMS) for module in folded.modules()):
            folded._fold_batch_norms()
        return folded

    def _fold_batch_norms(self) -> None:
        """Move this layer's batch norms into its convolutions, in place; called on a copy, in eval mode."""
        raise NotImplementedError(f"{type(self).__name__} has batch norms and does not say how they fold")

    def regularization_loss(self) -> Tensor:
        """Return the paper's penalty on this layer's weights, a scalar; zero where the paper has none."""
        return torch.zeros(())

    @staticmethod
    def from_authors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Map the keys of the authors' layer, relative to it, to this layer's; here they are the same."""
        return dict(state_dict)

    def extra_repr(self) -> str:
        """Show the geometry as ``nn.Conv2d`` does."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        for name, default in (("padding", (0, 0)), ("dilation", (1, 1)), ("groups", 1), ("padding_mode", "zeros")):
            if getattr(self, name) != default:
                text += f", {name}={getattr(self, name)}"
        return text


def penalized_layers(model: nn.Module) -> list[ConvVariant]:
    """List the layers in ``model`` that have a penalty, so that a training loop collects them once, not each step."""
    return [
        module
        for module in model.modules()
        if isinstance(module, ConvVariant) and type(module).regularization_loss is not ConvVariant.regularization_loss
    ]


def regularization_loss(model: nn.Module) -> Tensor:
    """Sum the penalties of all convolution variants in ``model``: a scalar, zero where there is none."""
    losses = [layer.regularization_loss() for layer in penalized_layers(model)]
    return torch.stack(losses).sum() if losses else torch.zeros(())


def rename_prefixes(state_dict: Mapping[str, Tensor], prefixes: Mapping[str, str]) -> dict[str, Tensor]:
    """Exchange the first dotted words of the keys, old → new; keys that begin otherwise stay."""
    renamed = {}
    for name, value in state_dict.items():
        old = next((prefix for prefix in prefixes if name.startswith(prefix + ".")), "")
        renamed[prefixes[old] + name[len(old) :] if old else name] = value
    return renamed


def require_whole(name: str, value: Any, least: int = 1) -> None:
    """Refuse what is not a whole number of at least ``least``.

    Raises:
        ValueError: names the argument, its value and the rule.
    """
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{name}={value!r}: must be a whole number of at least {least}")


def require_divisor(name: str, value: Any, least: int = 1, **numbers: int) -> None:
    """Refuse what is not a whole number of at least ``least`` that divides each of ``numbers``, given by name.

    Raises:
        ValueError: names the argument, its value, the rule and the values that would fit.
    """
    require_whole(name, value, least)
    if any(number % value for number in numbers.values()):
        common = math.gcd(*numbers.values())
        fitting = " or ".join(str(d) for d in range(least, common + 1) if common % d == 0)
        named = " and ".join(f"{key}={number}" for key, number in numbers.items())
        raise ValueError(f"{name}={value}: must divide {named}; {fitting or f'no {name}'} would fit")


def whole_pair(name: str, value: Any, least: int = 1) -> tuple[int, int]:
    """Return a number twice, or a pair as a tuple, as ``nn.Conv2d`` reads its sizes.

    Raises:
        ValueError: not one or two whole numbers of at least ``least``.
    """
    pair = tuple(value) if isinstance(value, Iterable) else (value, value)
    if len(pair) != 2 or any(not isinstance(v, int) or v < least for v in pair):
        raise ValueError(f"{name}={value!r}: one or two whole numbers of at least {least} are needed")
    return pair
