"""BSConv-S's training step on a processor: both 1×1 convolutions and their batch norms as two thin matrix products.

A batch norm in training is a scale and a shift once its statistics are known, and the variances of a linear function
M·t follow from the covariance C of t: they are the diagonal of M·C·Mᵀ. Here t = W₁·x − mean has the few channels of the
subspace, M = W₂·scale₁, and the depthwise convolution sees ``scale₂·M·t + bias₂``. So nothing is normalised on the way,
and what the norms add to the gradient of t is one product with a small matrix. The first norm's bias goes into the
second one's running mean and nowhere else: its gradient is zero.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from efficientconv.layers.affine import has_everything, update_running_statistics
from efficientconv.layers.cpu_forms import runs_in_cpu_form

if TYPE_CHECKING:
    from efficientconv.layers.bsconv import BSConvS

LEAST_SHARE = 0.01  # of a variance in the sum of those of its terms; where these cancel so, two digits of C are lost


def is_for(layer: BSConvS, x: Tensor) -> bool:
    """Tell whether ``training_step`` may stand for what ``layer`` does in front of its depthwise convolution."""
    norms = (layer.bn1, layer.bn2)
    return (
        all(norm.training and has_everything(norm) for norm in norms)
        and runs_in_cpu_form(x, layer.pw1, layer.pw2, *norms)
        and x.numel() > x.shape[1] == layer.in_channels
        and x.is_contiguous(memory_format=torch.channels_last)
    )


def training_step(layer: BSConvS, x: Tensor) -> Tensor:
    """Return what the depthwise convolution of ``layer`` sees, and bring the running statistics up to date.

    Args:
        layer: with batch norms, in training mode.
        x: (N, i, H, W), channels last.

    Returns:
        (N, o, H, W), channels last; its gradient has no gradient.
    """
    bn1, bn2 = cast(nn.BatchNorm2d, layer.bn1), cast(nn.BatchNorm2d, layer.bn2)
    parameters = (layer.pw1.weight, bn1.weight, bn1.bias, layer.pw2.weight, bn2.weight, bn2.bias)
    return _TrainingStep.apply(bn1, bn2, x, *parameters)


class _Norm(NamedTuple):
    """A batch norm of centred values; each (C,)."""

    variance: Tensor
    rstd: Tensor
    scale: Tensor

    @classmethod
    def of(cls, norm: nn.BatchNorm2d, variance: Tensor) -> _Norm:
        rstd = (variance + norm.eps).rsqrt_()
        return cls(variance, rstd, norm.weight * rstd)

    def backward(self, by_scale: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weight's gradient, and what is −2 times that of the variance."""
        by_weight = by_scale * self.rstd
        return by_weight, by_weight * self.rstd * self.scale


class _Norms(NamedTuple):
    """Both norms and the matrix between them."""

    first: _Norm
    second: _Norm
    matrix: Tensor  # M = W₂·scale₁, (o, m)
    spread: Tensor  # M·C, (o, m)

    @classmethod
    def of(cls, bn1: nn.BatchNorm2d, bn2: nn.BatchNorm2d, kernel: Tensor, covariance: Tensor) -> _Norms:
        first = _Norm.of(bn1, covariance.diagonal())
        matrix = kernel * first.scale
        spread = matrix @ covariance
        return cls(first, _Norm.of(bn2, (spread * matrix).sum(1)), matrix, spread)

    def are_exact(self) -> bool:
        of_terms = self.matrix.square() @ self.first.variance
        return bool((self.second.variance >= LEAST_SHARE * of_terms).all())

    def backward(self, by_product: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the gradients of the first weight, of W₂, of the second weight, and −P times what t is multiplied by.

        Args:
            by_product: the gradient of scale₂·M, (o, m).
            kernel: W₂, (o, m).
        """
        by_weight2, slope2 = self.second.backward((by_product * self.matrix).sum(1))
        slope2 = slope2.unsqueeze(1)
        by_matrix = (by_product * self.second.scale.unsqueeze(1)).addcmul_(self.spread, slope2, value=-1)
        by_weight1, slope1 = self.first.backward((by_matrix * kernel).sum(0))
        slopes = (self.matrix * slope2).t() @ self.matrix
        slopes.diagonal().add_(slope1)
        return by_weight1, by_matrix * self.first.scale, by_weight2, slopes


class _TrainingStep(Function):
    @staticmethod
    def forward(ctx: Any, bn1: nn.BatchNorm2d, bn2: nn.BatchNorm2d, x: Tensor, *parameters: Tensor) -> Tensor:  # type: ignore[override]
        w1, _, bias1, w2, _, bias2 = parameters
        t, mean = _subspace(x, w1.flatten(1))
        images, kernel = t.view(len(x), -1, t.shape[1])[..., :-1], w2.flatten(1)
        norms = _Norms.of(bn1, bn2, kernel, _covariance(images))
        if not norms.are_exact():
            norms = _Norms.of(bn1, bn2, kernel, _covariance(images.double()))
        update_running_statistics(bn1, mean, norms.first.variance, len(t))
        update_running_statistics(bn2, kernel @ bias1, norms.second.variance, len(t))
        product = (norms.matrix * norms.second.scale.unsqueeze(1)).to(x.dtype)
        product = torch.cat((product, bias2.unsqueeze(1)), 1)  # (o, m + 1)
        ctx.save_for_backward(x, t, w1, w2, product, *norms.first, *norms.second, norms.matrix, norms.spread)
        return _as_image(t @ product.t(), x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        saved = iter(ctx.saved_tensors)
        x, t, w1, w2, product = islice(saved, 5)
        norms = _Norms(_Norm(*islice(saved, 3)), _Norm(*islice(saved, 3)), *saved)
        pixels, by, product = _pixels(x), _pixels(grad.contiguous(memory_format=torch.channels_last)), product[:, :-1]
        by_product, by_bias2 = (t.t() @ by).split((len(w1), 1))
        by_weight1, by_kernel, by_weight2, slopes = norms.backward(by_product.t(), w2.flatten(1))
        slopes = torch.cat((slopes.to(x.dtype), by_bias2 @ product)).div_(-len(t))
        by_t = (t @ slopes).add_(by @ product)
        by_w1, by_w2 = (by_t.t() @ pixels).view_as(w1), by_kernel.view_as(w2)
        by_x = _as_image(by_t @ w1.flatten(1), x) if ctx.needs_input_grad[2] else None
        return None, None, by_x, by_w1, by_weight1, torch.zeros_like(by_weight1), by_w2, by_weight2, by_bias2.squeeze(0)


def _subspace(x: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Return W₁·x less its mean, with a one behind each pixel's channels, (P, m + 1), and the mean, (m,).

    A bias is a product with the ones, and its gradient too.
    """
    pixels, width = _pixels(x), len(kernel)
    t = pixels.new_empty(len(pixels), width + 1)
    t[:, width] = 1
    torch.mm(pixels, kernel.t(), out=t[:, :width])
    images = t.view(len(x), -1)  # the rows are long: with a few channels, sums and differences take longer than products
    mean = images.sum(0).view(-1, width + 1).sum(0).div_(len(t))
    mean[width] = 0
    images.sub_(mean.repeat(len(t) // len(x)))
    return t, mean[:width]


def _covariance(images: Tensor) -> Tensor:
    """Return that of the channels of (N, pixels, m), whose means are zero, (m, m): float64, a sum over the images."""
    return torch.bmm(images.mT, images).sum(0, dtype=torch.float64).div_(images.shape[0] * images.shape[1])


def _pixels(x: Tensor) -> Tensor:
    """View (N, C, H, W), channels last, as (N·H·W, C)."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def _as_image(pixels: Tensor, x: Tensor) -> Tensor:
    """View (N·H·W, C) as an image of the size of ``x``, channels last."""
    return pixels.view(len(x), *x.shape[2:], -1).permute(0, 3, 1, 2)
