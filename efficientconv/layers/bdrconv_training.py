"""BDRConv's training step on a processor: the layer as one operator, in few passes over the activations.

Operator by operator the layer is fifty calls, and its backward pass more. With small images the calls are its time,
with large ones the arrays of the activations' size that they write. This saves half of the calls and some of the
arrays; on one core of a Xeon with AVX-512, torch 2.14, a layer is 1.2 times as fast, forward and backward, with 16 to
64 channels at 32×32 to 4×4 pixels:

- A batch norm's scale in front of a convolution goes into the kernels. Its shift, which the padding's zeros do not
  have, gives every image the same border: the sum of shift·kernel over the taps that lie on the image.
- A batch norm's gradient follows from that of its scale and its shift. In front of a convolution these come from the
  kernels' gradient, behind it from the sums that the gate needs anyway; no pass over the activations is theirs alone.
- Each part is computed in the place where its concatenation has it.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from efficientconv.layers.affine import as_image, has_everything
from efficientconv.layers.border import unfolded_ones
from efficientconv.layers.cpu_forms import runs_in_cpu_form, sum_over_groups
from efficientconv.layers.measured_norm import MeasuredNorm

if TYPE_CHECKING:
    from efficientconv.layers.bdrconv import BDRConv2d

aten = torch.ops.aten


def runs_as_one(layer: BDRConv2d, x: Tensor) -> bool:
    """Tell whether ``training_step`` may stand for ``layer(x)``: the usual geometry, training, channels last."""
    main, diversity, norms = layer.main_conv, layer.diversity_conv, (layer.bn1, layer.bn2)
    return (
        runs_in_cpu_form(x, main, layer.expand, diversity, *norms, layer.se.fc1, layer.se.fc2)
        and layer.stride == main.kernel_size == (1, 1)
        and layer.padding_mode == "zeros"
        and diversity.groups == diversity.out_channels
        and all(norm.training and has_everything(norm) for norm in norms)
        and x.numel() > x.shape[1] == layer.in_channels
        and x.is_contiguous(memory_format=torch.channels_last)
    )


def training_step(layer: BDRConv2d, x: Tensor) -> Tensor:
    """Return ``layer(x)``, and bring its running statistics up to date; its gradient has no gradient.

    Args:
        layer: in training mode.
        x: (N, i, H, W), channels last.
    """
    return _TrainingStep.apply(layer, x, *_Parameters.of(layer))


class _Parameters(NamedTuple):
    main: Tensor  # (a, m, 1, 1)
    expand: Tensor  # (o, i − m, 1, 1)
    diversity: Tensor  # (m, (m + o)/m, k, k): a kernel for each feature
    weight1: Tensor
    bias1: Tensor
    weight2: Tensor
    bias2: Tensor
    squeeze: Tensor
    squeeze_bias: Tensor
    excite: Tensor
    excite_bias: Tensor

    @classmethod
    def of(cls, layer: BDRConv2d) -> _Parameters:
        convs = (layer.main_conv, layer.expand, layer.diversity_conv)
        others = (layer.bn1, layer.bn2, layer.se.fc1, layer.se.fc2)
        return cls(*(conv.weight for conv in convs), *(p for module in others for p in (module.weight, module.bias)))


class _Gate(NamedTuple):
    """The squeeze-excitation of what a batch norm makes of y; each (N, C), but for the hidden ones."""

    means: Tensor  # of y
    squeezed: Tensor
    hidden: Tensor
    weights: Tensor

    @classmethod
    def of(cls, y: Tensor, norm: MeasuredNorm, p: _Parameters) -> _Gate:
        means = y.mean((2, 3))
        squeezed = torch.addcmul(norm.shift, means, norm.scale)
        hidden = torch.addmm(p.squeeze_bias, squeezed, p.squeeze.t()).relu_()
        return cls(means, squeezed, hidden, torch.addmm(p.excite_bias, hidden, p.excite.t()).sigmoid_())

    def backward(self, by_weights: Tensor, p: _Parameters) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the gradients of what was squeezed, and of the parameters."""
        by_excite = aten.sigmoid_backward(by_weights, self.weights)
        by_hidden = aten.threshold_backward(by_excite @ p.excite, self.hidden, 0)
        by_layers = (by_hidden.t() @ self.squeezed, by_hidden.sum(0), by_excite.t() @ self.hidden, by_excite.sum(0))
        return by_hidden @ p.squeeze, by_layers


class _TrainingStep(Function):
    @staticmethod
    def forward(ctx: Any, layer: BDRConv2d, x: Tensor, *parameters: Tensor) -> Tensor:  # type: ignore[override]
        p = _Parameters(*parameters)
        features = _features(x, p)
        norm1 = MeasuredNorm.of(cast(nn.BatchNorm2d, layer.bn1), features)
        kernels = p.diversity.flatten(0, 1).unsqueeze(1) * norm1.scale.view(-1, 1, 1, 1)  # (m + o, 1, k, k)
        y = _concatenated(x, features, kernels, norm1, p, layer)
        norm2 = MeasuredNorm.of(cast(nn.BatchNorm2d, layer.bn2), y)
        gate = _Gate.of(y, norm2, p)
        scale, shift = gate.weights * norm2.scale, gate.weights * norm2.shift
        ctx.layer = layer
        ctx.save_for_backward(x, features, y, kernels, *p, *norm1, *norm2, *gate)
        expanded = features[:, layer.split[0] :]
        return torch.addcmul(as_image(shift), y, as_image(scale)).add_(expanded)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        saved = iter(ctx.saved_tensors)
        x, features, y, kernels = islice(saved, 4)
        p, norm1 = _Parameters(*islice(saved, 11)), MeasuredNorm(*islice(saved, 4))
        norm2, gate = MeasuredNorm(*islice(saved, 4)), _Gate(*saved)
        grad = grad.contiguous(memory_format=torch.channels_last)
        by_y, *by_norm2, by_se = _back_through_gate(grad, y, norm2, gate, p)
        by_features, by_diversity, *by_norm1 = _back_through_groups(by_y, features, kernels, norm1, p, ctx.layer)
        by_features[:, ctx.layer.split[0] :].add_(grad)
        by_x = _back_to_x(x, by_features, by_y, p) if ctx.needs_input_grad[1] else None
        by_main, by_expand = _back_to_pointwise(x, by_features, by_y, p)
        return None, by_x, by_main, by_expand, by_diversity, *by_norm1, *by_norm2, *by_se


def _features(x: Tensor, p: _Parameters) -> Tensor:
    """Return the first m channels of ``x`` and the others expanded, (N, m + o, H, W)."""
    main = p.main.shape[1]
    features = _empty_image(x, main + len(p.expand))
    to, pixels = _pixels(features), _pixels(x)
    to[:, :main].copy_(pixels[:, :main])
    torch.mm(pixels[:, main:], p.expand.flatten(1).t(), out=to[:, main:])
    return features


def _concatenated(
    x: Tensor, features: Tensor, kernels: Tensor, norm: MeasuredNorm, p: _Parameters, layer: BDRConv2d
) -> Tensor:
    """Return the intrinsic and the diverse channels, (N, o, H, W)."""
    base, main = p.main.shape[:2]
    products = F.conv2d(features, kernels, None, 1, layer.padding, layer.dilation, len(kernels))
    y = _empty_image(x, base + len(p.diversity))
    groups, on_image = _groups(p.diversity), _taps_on_image(layer, x)
    torch.mm(_pixels(x)[:, :main], p.main.flatten(1).t(), out=_pixels(y)[:, :base])
    torch.mm(_pixels(products), groups.t(), out=_pixels(y)[:, base:])
    shifts = torch.bmm(norm.shift.view(len(p.diversity), 1, -1), _by_taps(p.diversity)).squeeze(1)  # (m, k²)
    y[:, base:].add_((on_image.t() @ shifts.t()).t().unflatten(1, x.shape[2:]))
    return y


def _back_through_gate(
    grad: Tensor, y: Tensor, norm: MeasuredNorm, gate: _Gate, p: _Parameters
) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, ...]]:
    """Return the gradients of y, of the second batch norm's weight and bias, and of the squeeze-excitation's."""
    by_scale, by_shift = by_gated = (grad * y).sum((2, 3)), grad.sum((2, 3))
    by_means, by_se = gate.backward(torch.addcmul(by_shift * norm.shift, by_scale, norm.scale), p)
    return *norm.gated_backward(grad, y, by_gated, gate.weights, gate.means, by_means), by_se


def _back_through_groups(
    by_y: Tensor, features: Tensor, kernels: Tensor, norm: MeasuredNorm, p: _Parameters, layer: BDRConv2d
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of the features, of their kernels, of the first batch norm's weight and bias."""
    base, taps, by_products = len(p.main), _by_taps(p.diversity), torch.empty_like(features)
    torch.mm(_pixels(by_y)[:, base:], _groups(p.diversity), out=_pixels(by_products))
    geometry = ((1, 1), layer.padding, layer.dilation, False, (0, 0), len(kernels))
    by_features, by_kernels, _ = aten.convolution_backward(
        by_products, features, kernels, None, *geometry, (True, True, False)
    )
    by_kernels = by_kernels.view_as(taps)
    by_image = _pixels(by_y).unflatten(0, (len(by_y), -1)).flatten(1).sum(0).unflatten(0, (-1, by_y.shape[1]))
    by_border = (_taps_on_image(layer, features) @ by_image[:, base:]).t().unsqueeze(1)  # (m, 1, k²)
    by_scale, by_shift = ((by * taps).sum(2).flatten() for by in (by_kernels, by_border))
    by_weight, slope, constant = norm.backward(by_scale, by_shift, features.numel() // features.shape[1])
    by_features.add_(torch.addcmul(as_image(constant), features, as_image(slope)))
    scale, shift = (value.view(len(taps), -1, 1) for value in (norm.scale, norm.shift))
    by_diversity = torch.addcmul(by_kernels * scale, by_border, shift)
    return by_features, by_diversity.view_as(p.diversity), by_weight, by_shift


def _back_to_x(x: Tensor, by_features: Tensor, by_y: Tensor, p: _Parameters) -> Tensor:
    base, main = p.main.shape[:2]
    by_x, by_features = torch.empty_like(x), _pixels(by_features)
    to = _pixels(by_x)
    torch.addmm(by_features[:, :main], _pixels(by_y)[:, :base], p.main.flatten(1), out=to[:, :main])
    torch.mm(by_features[:, main:], p.expand.flatten(1), out=to[:, main:])
    return by_x


def _back_to_pointwise(x: Tensor, by_features: Tensor, by_y: Tensor, p: _Parameters) -> tuple[Tensor, Tensor]:
    """Return the gradients of the two 1×1 convolutions' weights."""
    base, main = p.main.shape[:2]
    pixels = _pixels(x)
    by_main = _pixels(by_y)[:, :base].t() @ pixels[:, :main]
    by_expand = _pixels(by_features)[:, main:].t() @ pixels[:, main:]
    return by_main.view_as(p.main), by_expand.view_as(p.expand)


def _pixels(x: Tensor) -> Tensor:
    """View (N, C, H, W), channels last, as (N·H·W, C)."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def _empty_image(x: Tensor, channels: int) -> Tensor:
    size = (len(x), channels, *x.shape[2:])
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _by_taps(diversity: Tensor) -> Tensor:
    return diversity.flatten(2)  # (m, (m + o)/m, k²)


def _groups(diversity: Tensor) -> Tensor:
    """Return the matrix that sums each group's features, (m, m + o)."""
    return sum_over_groups(*diversity.shape[:2], diversity.dtype)


def _taps_on_image(layer: BDRConv2d, x: Tensor) -> Tensor:
    """Return for each tap of the kernel and each pixel 1 where the tap lies on the image and else 0, (k², H·W)."""
    return unfolded_ones(*x.shape[2:], layer.kernel_size, layer.dilation, layer.padding, x.dtype)
