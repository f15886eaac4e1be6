"""A batch norm in training as a scale and a shift, and its gradient by hand, for layers that are one operator.

What a norm adds to a gradient follows from the gradients of its scale and its shift, which a layer around it often has
at hand: no pass over the activations is the norm's alone.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from efficientconv.layers.affine import as_image, next_momentum


class MeasuredNorm(NamedTuple):
    """``scale·x + shift`` with the statistics of x; each (C,)."""

    mean: Tensor
    rstd: Tensor
    scale: Tensor
    shift: Tensor

    @classmethod
    def of(cls, norm: nn.BatchNorm2d, x: Tensor) -> MeasuredNorm:
        """Measure ``x``, (N, C, H, W), and bring the running statistics up to date, as if ``norm`` had been called."""
        running = norm.running_mean, norm.running_var
        mean, variance = torch.ops.aten.batch_norm_update_stats(x, *running, next_momentum(norm))
        return cls.with_statistics(norm, mean, variance)

    @classmethod
    def with_statistics(cls, norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> MeasuredNorm:
        """Make one of the mean and the (biased) variance of x, (C,); the running statistics stay as they are."""
        rstd = (variance + norm.eps).rsqrt_()
        scale = norm.weight * rstd
        return cls(mean, rstd, scale, torch.addcmul(norm.bias, mean, scale, value=-1))

    def backward(self, by_scale: Tensor, by_shift: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the weight's gradient, and (a, b): the statistics add ``a·x + b`` to the gradient of x.

        Args:
            by_scale: the gradient of the scale, (C,).
            by_shift: that of the shift, which is the bias's too, (C,).
            count: of the values in a channel.
        """
        by_weight = torch.addcmul(by_scale, self.mean, by_shift, value=-1).mul_(self.rstd)
        share = self.scale * (-1 / count)
        slope = by_weight * self.rstd * share
        return by_weight, slope, torch.addcmul(by_shift * share, self.mean, slope, value=-1)

    def gated_backward(
        self, grad: Tensor, y: Tensor, by_gated: tuple[Tensor, Tensor], gate: Tensor, means: Tensor, by_means: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of y, of the weight and of the bias, for ``gate·norm(y)``.

        The gate, (N, C), is made from the means of ``norm(y)`` over the pixels.

        Args:
            grad: of the product, (N, C, H, W).
            y: (N, C, H, W).
            by_gated: Σ grad·y and Σ grad over the pixels, (N, C): the gradients of gate·scale and gate·shift.
            gate: (N, C).
            means: of y over the pixels, (N, C).
            by_means: the gradient of the means of ``norm(y)``, (N, C).
        """
        by_scale = torch.addcmul(by_means * means, by_gated[0], gate).sum(0)
        by_shift = torch.addcmul(by_means, by_gated[1], gate).sum(0)
        by_weight, slope, constant = self.backward(by_scale, by_shift, y.numel() // y.shape[1])
        constants = torch.addcmul(constant, by_means, self.scale, value=1 / (y.shape[2] * y.shape[3]))
        by_y = torch.addcmul(as_image(constants), grad, as_image(gate * self.scale))
        return by_y.addcmul_(y, as_image(slope)), by_weight, by_shift
