"""A layer in C++ as one operator that autograd knows: ``forward`` and ``backward`` of its library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from efficientconv.layers.affine import update_running_statistics
from efficientconv.layers.native_form import by_pixels
from efficientconv.native import Library


class NativeStep(NamedTuple):
    """What the C++ takes besides x and the parameters.

    ::

        forward(sizes, parameters, x, kept, y)
        backward(sizes, parameters, x, kept, by_y, *room, by_x, by_parameters)
    """

    native: Library
    sizes: tuple[int | float, ...]
    y: Tensor
    """(N, o, H', W'), channels last: room for the output."""
    kept: tuple[Tensor, ...] = ()
    """What the backward pass needs of the forward pass besides x; at its end mean and variance of each norm's input."""
    room: Callable[[Tensor, Tensor], Sequence[Tensor]] = lambda x, by_y: ()
    """Images for the backward pass to write to, made from x and the gradient of y; it must not hold any itself."""

    def run(self, x: Tensor, parameters: Sequence[Tensor], norms: Sequence[tuple[nn.BatchNorm2d, int]] = ()) -> Tensor:
        """Return the output, and bring the norms' running statistics up to date; its gradient has no gradient.

        Args:
            x: (N, i, H, W), channels last.
            parameters: contiguous, in the order of the C++.
            norms: each with how many values it sees in a channel.
        """
        y, *statistics = _Step.apply(self, 2 * len(norms), x, *parameters)
        for (norm, count), mean, variance in zip(norms, statistics[::2], statistics[1::2], strict=True):
            update_running_statistics(norm, mean, variance, count)
        return y


class _Step(Function):
    @staticmethod
    def forward(ctx: Any, step: NativeStep, statistics: int, x: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        step.native.call("forward", step.sizes, parameters, by_pixels(x), step.kept, by_pixels(step.y))
        ctx.native, ctx.sizes, ctx.room, ctx.number_kept = step.native, step.sizes, step.room, len(step.kept)
        ctx.save_for_backward(x, *step.kept, *parameters)
        found = step.kept[len(step.kept) - statistics :]
        ctx.mark_non_differentiable(*found)
        return step.y, *found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_y: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, *others = ctx.saved_tensors
        kept, parameters = others[: ctx.number_kept], others[ctx.number_kept :]
        by_x, by_parameters = torch.empty_like(x), [torch.zeros_like(parameter) for parameter in parameters]
        by_y = by_y.contiguous(memory_format=torch.channels_last)
        images = (by_pixels(x), kept, *map(by_pixels, (by_y, *ctx.room(x, by_y), by_x)))
        ctx.native.call("backward", ctx.sizes, parameters, *images, by_parameters)
        return None, None, by_x, *by_parameters
