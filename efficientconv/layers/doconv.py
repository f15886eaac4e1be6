"""DO-Conv: a convolution whose kernel is the product of an ordinary and a depthwise one.

Cao, Li, Sun, Chen, Lischinski, Cohen-Or, Chen and Tu, "DO-Conv: Depthwise Over-Parameterized Convolutional Layer", IEEE
Transactions on Image Processing 31, 2022, arXiv:2006.12030, doi:10.1109/TIP.2022.3175432: kernel composition, D ∘ W.

More parameters to train, and after training one ``nn.Conv2d``: ``fold()``.

The authors' code and the paper differ, and this follows the code, so that its weights load:

- For groups > 1 the code lays W out as (o/g, i, d_mul) row by row, so that the i rows of D meet the output channels in
  another order than "one D for each input channel" says. Up to a permutation of the output channels it is the same.
- The identity that D starts from is a stored, frozen parameter of theirs (``d_diag``). Here nothing is stored: the
  identity's share of the product is W itself.
- They accept d_mul < k·k, drop the identity then, and the layer starts as a constant. Here that is refused.
- Where d_mul is no multiple of k·k the last columns of the identity are zero, as theirs are.
- Their padding modes other than zeros exchange height and width; here they are ``nn.Conv2d``'s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function

from efficientconv.layers.approximation import set_bias
from efficientconv.layers.base import ConvVariant, PaddingMode, Size2, require_whole
from efficientconv.layers.cpu_forms import runs_in_cpu_form


class _Composed(NamedTuple):
    """A composed kernel and what it was composed of, to tell when it is stale."""

    kernel: Tensor
    aliases: tuple[Tensor, ...]  # these keep the parameters' storage alive, so that no other tensor gets its address
    versions: tuple[int, ...]
    autocast_dtype: torch.dtype | None

    @classmethod
    def now(cls, kernel: Tensor, *sources: Tensor) -> _Composed:
        aliases, versions = tuple(p.detach() for p in sources), tuple(p._version for p in sources)
        return cls(kernel, aliases, versions, _autocast_dtype(kernel.device))

    def is_fresh(self, *sources: Tensor) -> bool:
        return self.autocast_dtype == _autocast_dtype(self.kernel.device) and all(
            p._version == version and p.dtype == alias.dtype and alias.is_set_to(p)
            for p, alias, version in zip(sources, self.aliases, self.versions, strict=True)
        )


def _autocast_dtype(device: torch.device) -> torch.dtype | None:
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None


class _ByChannel(Function):
    """W + D ∘ W by a product of small matrices for each channel, (o, i, s) and (i, m, s) → (o, i, m).

    What autograd makes of an einsum cuts these matrices out of their neighbours one by one: a thousand copies a step.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, d: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(weight, d)
        return weight + torch.bmm(weight.transpose(0, 1), d.mT).transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        weight, d = ctx.saved_tensors
        by_channel = grad.transpose(0, 1).contiguous()  # (i, o, m)
        by_weight = grad + torch.bmm(by_channel, d).transpose(0, 1)
        return by_weight, torch.bmm(by_channel.mT, weight.transpose(0, 1))


class DOConv2d(ConvVariant):
    """Depthwise over-parameterised convolution; groups = 1, depthwise (groups = i) and grouped alike.

    ::

        W (o, i/g, d_mul), D (i, k·k, d_mul):   kernel[o, i, m] = Σ_s (D + identity)[i, m, s] · W[o, i, s]
        y = conv2d(x, kernel) + bias

    D starts at zero, and with d_mul = k·k the kernel then is W. A 1×1 kernel has no D.

    In eval mode under ``torch.no_grad()`` the kernel is composed once and kept, unless W or D hold a gradient. It is
    composed anew when they or autocast's precision have changed; ``fold()`` leaves nothing to compose.

    Args:
        in_channels: i.
        out_channels: o.
        kernel_size: in pixels.
        stride: in pixels.
        padding: in pixels.
        dilation: in pixels.
        groups: g.
        bias: whether there is one.
        padding_mode: as ``nn.Conv2d``'s.
        device: of the parameters.
        dtype: of the parameters.
        d_mul: depth multiplier, at least k·k; None for k·k. For a 1×1 kernel it is 1 whatever is asked.

    Raises:
        ValueError: ``d_mul`` is below k·k, or the geometry is none.
    """

    W: nn.Parameter
    D: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size2,
        stride: Size2 = 1,
        padding: Size2 | str = 0,
        dilation: Size2 = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        d_mul: int | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode)
        taps = math.prod(self.kernel_size)
        self.d_mul = self._checked_d_mul(d_mul, taps)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.W = nn.Parameter(torch.empty(out_channels, in_channels // groups, self.d_mul, **factory))
        self.D = nn.Parameter(torch.empty(in_channels, taps, self.d_mul, **factory)) if taps > 1 else None
        self.bias = nn.Parameter(torch.empty(out_channels, **factory)) if bias else None
        self._composed: _Composed | None = None
        self.reset_parameters()

    @staticmethod
    def _checked_d_mul(d_mul: int | None, taps: int) -> int:
        if taps == 1 or d_mul is None:
            return taps
        require_whole("d_mul", d_mul)
        if d_mul < taps:
            raise ValueError(
                f"d_mul={d_mul}: must be at least kernel height · width = {taps}, or the kernel has less freedom than "
                f"an ordinary one; {taps} would fit"
            )
        return d_mul

    def reset_parameters(self) -> None:
        """W and the bias as the authors': uniform within 1/√fan-in, fan-in = i/g · d_mul; D zero."""
        nn.init.kaiming_uniform_(self.W, a=math.sqrt(5))
        if self.D is not None:
            nn.init.zeros_(self.D)
        if self.bias is not None:
            bound = 1 / math.sqrt(self.W[0].numel())
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W')."""
        kernel = self._kernel()
        if x.is_contiguous(memory_format=torch.channels_last):
            kernel = kernel.contiguous(memory_format=torch.channels_last)  # or it is reordered in both directions
        return self._convolve(x, kernel, self.bias, self.stride, self.groups)

    def compose(self) -> Tensor:
        """Return the kernel of the equivalent convolution, (o, i/g, k, k)."""
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        if self.D is None:
            return self.W.reshape(shape)
        taps = math.prod(self.kernel_size)
        weight = self.W.reshape(self.out_channels // self.groups, self.in_channels, self.d_mul)
        if self.d_mul == taps and runs_in_cpu_form(weight):
            return _ByChannel.apply(weight, self.D).reshape(shape)
        kernel = torch.einsum("ims,ois->oim", self.D, weight)
        for start in range(0, self.d_mul - taps + 1, taps):  # the identity repeats as often as it fits into d_mul
            kernel = kernel + weight[..., start : start + taps]
        return kernel.reshape(shape)

    def _kernel(self) -> Tensor:
        """Return ``compose()``, or the kept result where nothing can have changed since."""
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return self.compose()
        if self.D is None or not self._weights_rest(self.D):
            self._composed = None
            return self.compose()
        if self._composed is None or not self._composed.is_fresh(self.W, self.D):
            kernel = self.compose()
            if type(kernel) is not Tensor:  # a fake or otherwise traced one
                return kernel
            self._composed = _Composed.now(kernel, self.W, self.D)
        return self._composed.kernel

    def _weights_rest(self, d: nn.Parameter) -> bool:
        """Tell whether the weights may be taken to stay: a parameter that holds a gradient may change at any moment.

        A tensor's version alone does not tell, since fused optimisers and writes to ``.data`` leave it as it is.
        """
        return not (self.training or torch.is_grad_enabled()) and all(
            type(p) is nn.Parameter and p.grad is None and not p.is_meta and not p.is_inference() for p in (self.W, d)
        )

    def train(self, mode: bool = True) -> DOConv2d:
        """Set the mode and forget the kept kernel: weights may be swapped between two evaluations."""
        self._composed = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the kept kernel out of copies and pickles."""
        return {**self.__dict__, "_composed": None}

    @torch.no_grad()
    def approximate(self, weight: Tensor, bias: Tensor | None = None) -> float:
        """Begin as the convolution itself: D is zero, and W's first k·k columns are its weight, the others zero."""
        self.W.zero_()
        self.W[..., : math.prod(self.kernel_size)].copy_(weight.flatten(2))
        if self.D is not None:
            self.D.zero_()
        set_bias(self.bias, bias)
        return 0.0

    def fold(self) -> nn.Conv2d:
        """Return the ordinary convolution with the composed kernel."""
        return self.convolution_of(self.compose(), self.bias).eval()

    @staticmethod
    def from_authors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Drop the stored identity; the other keys are the same."""
        return {name: value for name, value in state_dict.items() if name != "d_diag"}

    def extra_repr(self) -> str:
        """Show the geometry as ``nn.Conv2d`` does, and d_mul."""
        return f"{super().extra_repr()}, bias={self.bias is not None}, d_mul={self.d_mul}"
