"""Each layer's ``approximate``, against its kernel as impulses find it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from efficientconv.layers import ConvVariant
from efficientconv.layers.approximation import (
    best_rank_one,
    block_mask,
    factorize,
    grouped_weight,
    on_pooled_grid,
    relative_error,
)
from tests.layers.test_contract import CASES

EXACT = {"doconv", "repvgg", "acnet", "condconv", "odconv", "orthonormal"}  # and their variants
NONE = {"slimconv", "depthwise"}  # slimconv…, depthwise_separable
AMPLITUDE = 1e-6  # of the impulses: gates that hang on the image do not feel them
CONVOLUTIONS = [name for name in CASES if name.partition("_")[0] not in NONE and name != "orthonormal"]


def pair(case, name, stride) -> tuple[ConvVariant, nn.Conv2d]:
    """Return a layer and the convolution that it begins near, in float64."""
    torch.manual_seed(0)
    layer = case.build(stride=stride, dtype=torch.float64)
    kernel_size = layer.kernel_size
    conv = nn.Conv2d(
        layer.in_channels,
        case.channels[0][1],
        kernel_size,
        stride,
        layer.padding,
        groups=case.groups,
        dtype=torch.float64,
    )
    return layer.eval(), conv


@torch.no_grad()
def responses(module: nn.Module, stride: tuple[int, int]) -> Tensor:
    """Return what impulses at all places of one period and in all channels give, far from the border."""
    rows, columns = (2 * step for step in stride)
    size = (7 * rows, 7 * columns)
    impulses = torch.zeros(module.in_channels, rows, columns, module.in_channels, *size, dtype=torch.float64)
    for channel in range(module.in_channels):
        for row in range(rows):
            for column in range(columns):
                impulses[channel, row, column, channel, 3 * rows + row, 3 * columns + column] = AMPLITUDE
    silence = module(torch.zeros(1, module.in_channels, *size, dtype=torch.float64))
    return (module(impulses.flatten(0, 2)) - silence) / AMPLITUDE


def probed_error(layer: nn.Module, conv: nn.Conv2d) -> float:
    wanted = responses(conv, conv.stride)
    return float((responses(layer, conv.stride) - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_the_error_is_that_of_the_kernel_that_impulses_find(name):
    case = CASES[name]
    for stride in {1, 2} & {s for s in case.strides if isinstance(s, int)}:
        layer, conv = pair(case, name, stride)
        bias = None if name == "scconv" else conv.bias.detach()  # it moves SCConv's gate
        error = layer.approximate(conv.weight.detach(), bias)
        assert probed_error(layer, conv) == pytest.approx(error, abs=1e-6)
        if name.partition("_")[0] in EXACT:
            assert error < 1e-6


@pytest.mark.parametrize("name", [name for name in CONVOLUTIONS if name.partition("_")[0] not in EXACT])
def test_no_small_change_of_the_weights_comes_nearer(name):
    case = CASES[name]
    layer, conv = pair(case, name, case.stride)
    found = layer.approximate(conv.weight.detach())
    kernels = [parameter for parameter in layer.parameters() if parameter.ndim == 4]  # not the gates, nor the norms
    for size in (1e-3, 1e-2):
        changes = [size * kernel.abs().mean() * torch.randn_like(kernel) for kernel in kernels]
        for sign in (1, -1):
            nudge(kernels, changes, sign)
            assert probed_error(layer, conv) > found - 1e-7
            nudge(kernels, changes, -sign)


@torch.no_grad()
def nudge(kernels: list[Tensor], changes: list[Tensor], sign: int) -> None:
    for kernel, change in zip(kernels, changes, strict=True):
        kernel += sign * change


@pytest.mark.parametrize("name", ["slimconv", "depthwise_separable"])
def test_a_layer_that_is_not_linear_says_that_it_begins_anew(name):
    layer = CASES[name].build()
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    assert layer.approximate(torch.ones(16, 8, 3, 3)) is None
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())


@pytest.mark.parametrize("name", ["spconv", "bdrconv", "ssdconv", "dualconv", "scconv"])
def test_a_kernel_without_a_centre_begins_anew(name):
    case = CASES[name]
    layer = case.make(*case.channels[0], 2, padding=1, dilation=2)
    assert layer.approximate(torch.ones(*case.channels[0][::-1], 2, 2)) is None


def test_pooled_pixels_see_what_their_window_holds():
    a, b, c = 1.0, 10.0, 100.0
    row = torch.tensor([[[[a, b, c]]]], dtype=torch.float64)
    geometry = {"dilation": (1, 1), "padding": (0, 1)}
    strided = on_pooled_grid(row, **geometry, stride=(1, 2))  # windows {-2, -1}, {0, 1}, {2, 3}
    assert strided.flatten().tolist() == [a, b + c, 0]
    halved = on_pooled_grid(row, **geometry, stride=(1, 1), repeat=(1, 2))  # the mean over outputs 0 and 1
    assert halved.flatten().tolist() == [a / 2, b + (a + c) / 2, c / 2]


def test_blueprints_of_a_blueprint_separable_kernel_are_its_own():
    kernel = torch.einsum("oi,oab->oiab", torch.randn(4, 6), torch.randn(4, 3, 3)).double()
    blueprints, factors = best_rank_one(kernel)
    assert torch.allclose(torch.einsum("om,oi->oim", blueprints, factors), kernel.flatten(2))
    assert torch.allclose(blueprints.norm(dim=1), torch.ones(4, dtype=torch.float64))


def test_blocks_of_a_grouped_kernel():
    kernel = torch.arange(24.0).view(4, 6, 1, 1)
    assert grouped_weight(kernel, 2).flatten().tolist() == [0, 1, 2, 6, 7, 8, 15, 16, 17, 21, 22, 23]
    assert torch.equal(kernel[block_mask(4, 6, 2)], grouped_weight(kernel, 2).flatten()[:, None, None])


def test_masks_that_allow_everything_give_the_best_product():
    kernel = torch.randn(2, 5, 6, dtype=torch.float64)
    fixed, mask = kernel.new_zeros(2, 5, 3), torch.ones(2, 5, 3, dtype=torch.bool)
    found = factorize(kernel, fixed, mask, torch.randn(3, 6, dtype=torch.float64))
    left_out = torch.linalg.svdvals(kernel.flatten(0, 1))[3:]
    assert float(found.squared_error) == pytest.approx(float(left_out.square().sum()), rel=1e-4)


def test_the_error_of_nothing_is_none():
    assert relative_error(torch.tensor(0.0), torch.zeros(1)) == 0.0
    assert relative_error(torch.tensor(-1e-20), torch.ones(4)) == 0.0
    assert relative_error(torch.tensor(1.0), torch.ones(4)) == pytest.approx(math.sqrt(1 / 4))
