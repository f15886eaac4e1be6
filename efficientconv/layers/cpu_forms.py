"""Where the form that a paper draws is not the fastest on a processor: the same sums in another order, and when.

One rule decides, ``runs_in_cpu_form``: float32 and float64 on a CPU, eager, outside autocast. A GPU has kernels of its
own for each of these; a compiler, an exporter and a counter of multiply-adds see the layer as its paper draws it; in
bfloat16 another order of the sum is another result. A module that is not torch's own, or has hooks (pruning, weight
norm, sensors), is called as it is.

The ratios are of time, forward and backward, on one core of a Xeon with AVX-512, torch 2.14 with oneDNN 3.12, for the
shapes of ResNet-20 with 64 images.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.utils._python_dispatch import is_in_torch_dispatch_mode


def runs_in_cpu_form(x: Tensor, *modules: nn.Module) -> bool:
    """Tell whether ``modules``, applied to ``x``, may be computed in another form than by calling them."""
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and not _is_observed()
        and all(_is_torchs_own(module) for module in modules)
    )


def _is_observed() -> bool:
    """Tell whether a compiler, an exporter, a counter of operators, a transform or forward-mode AD looks on."""
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or is_in_torch_dispatch_mode()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
    )


def _is_torchs_own(module: nn.Module) -> bool:
    return type(module) in _OWN and not has_hooks(module)


def has_hooks(module: nn.Module) -> bool:
    """Tell whether somebody is called when ``module`` is."""
    before = module._forward_pre_hooks or module._backward_pre_hooks
    return bool(before or module._forward_hooks or module._backward_hooks)


def pointwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Return ``conv(x)`` for a 1×1 convolution; of a slice of the channels, where these come last, a matrix product.

    A product reads the slice where it lies, a convolution copies it first. 1.4, 1.5 and 1.6 times as fast for the two
    of BDRConv with 16, 32 and 64 channels, 1.1 to 1.2 times with 128 to 512. So is a strided one, channels last, for
    the reason that ``StridedPointwise`` gives.
    """
    if not (_is_a_product(conv) and x.stride(1) == 1 and runs_in_cpu_form(x, conv)):
        return conv(x)
    if conv.stride == (1, 1) and not _is_slice_of_channels_last(x):
        return conv(x)
    return _product(conv, x)


def _is_a_product(conv: nn.Conv2d) -> bool:
    """Tell whether a convolution is a matrix product of pixels: dense, 1×1, without padding."""
    return conv.kernel_size == (1, 1) and conv.padding == (0, 0) and conv.groups == 1


def _product(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Return ``conv(x)`` where ``conv`` is a matrix product."""
    rows, columns = conv.stride
    images = x[:, :, ::rows, ::columns].permute(0, 2, 3, 1)
    return F.linear(images, conv.weight.flatten(1), conv.bias).permute(0, 3, 1, 2)


def pixels_of(x: Tensor) -> Tensor:
    """View (N, C, H, W), channels last, as (N·H·W, C)."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


class StridedPointwise(nn.Conv2d):
    """A narrow strided 1×1 convolution, computed on a CPU as a matrix product.

    Torch 2.14's own may end the process: with fewer than 16 channels in, channels last and two threads or more, its
    backward pass writes beyond its memory ("free(): invalid next size", "corrupted double-linked list").
    """

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return _product(self, x) if x.device.type == "cpu" else super().forward(x)


_OWN = {nn.Conv2d, StridedPointwise, nn.BatchNorm2d, nn.GroupNorm, nn.Linear, nn.ReLU, nn.Sigmoid}


def keep_to_memory(model: nn.Module) -> None:
    """Let each convolution of ``model`` that torch cannot train safely on a CPU be a ``StridedPointwise``."""
    for conv in model.modules():
        if type(conv) is nn.Conv2d and _is_a_product(conv) and conv.stride != (1, 1) and conv.in_channels < 16:
            conv.__class__ = StridedPointwise


def _is_slice_of_channels_last(x: Tensor) -> bool:
    """Tell whether ``x``, (N, C, H, W), lies in memory as some channels of a larger tensor whose channels come last."""
    columns, width = x.stride(3), x.shape[3]
    return x.stride(1) == 1 and columns > x.shape[1] and x.stride(2) == columns * width


def grouped(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Return ``conv(x)`` for one output a group: a depthwise convolution, then the sum over each group.

    oneDNN has fast kernels for depthwise convolutions and none for narrow groups. Channels last, the sum is a 1×1
    convolution with a constant weight: groups of 3 channels are 1.7, 1.8 and 1.8 times as fast with 8 groups at 32×32,
    16 at 16×16 and 32 at 8×8, and 1.5 and 1.2 times with 64 and 128 at 14×14. Channels first, it is a plain sum: 3.2,
    4.4 and 3.6 times, and 3.4 and 3.4.
    """
    in_channels, groups = conv.in_channels, conv.groups
    if not (conv.out_channels == groups < in_channels and conv.padding_mode == "zeros" and runs_in_cpu_form(x, conv)):
        return conv(x)
    kernels = conv.weight.flatten(0, 1).unsqueeze(1)  # (i, 1, k, k)
    y = F.conv2d(x, kernels, None, conv.stride, conv.padding, conv.dilation, in_channels)
    if not y.is_contiguous(memory_format=torch.channels_last):
        y = y.unflatten(1, (groups, -1)).sum(2)
        return y if conv.bias is None else y.add_(conv.bias.view(-1, 1, 1))
    return F.conv2d(y, sum_over_groups(groups, in_channels // groups, x.dtype)[:, :, None, None], conv.bias)


@lru_cache(maxsize=32)
def sum_over_groups(groups: int, size: int, dtype: torch.dtype) -> Tensor:
    """Return the matrix of zeros and ones that sums ``size`` channels for each group, (groups, groups·size)."""
    with torch.inference_mode(False):  # what is kept may take part in training later
        return torch.eye(groups, dtype=dtype, device="cpu").repeat_interleave(size, 1)
