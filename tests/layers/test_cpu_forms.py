"""The form that runs on a processor computes what the drawn one does, and stays away where the drawn one belongs."""

from __future__ import annotations

import copy
import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.utils import prune
from torch.utils._python_dispatch import TorchDispatchMode

from efficientconv.layers import BDRConv2d, BSConvS, BSConvU, OctConv2d, SlimConv2d, SPConv2d
from efficientconv.layers.cpu_forms import (
    StridedPointwise,
    grouped,
    keep_to_memory,
    pointwise,
    runs_in_cpu_form,
    sum_over_groups,
)

LAYERS = {
    "bdrconv": partial(BDRConv2d, 8, 16, 3, padding=1),
    "bdrconv_square": partial(BDRConv2d, 8, 8, 3, padding=1),
    "bdrconv_strided": partial(BDRConv2d, 8, 8, 3, 2, 1),
    "bdrconv_circular": partial(BDRConv2d, 8, 8, 3, padding=1, padding_mode="circular"),
    "spconv": partial(SPConv2d, 8, 16, 3, padding=1),
    "spconv_strided": partial(SPConv2d, 8, 8, 3, 2, 1),
    "slimconv": partial(SlimConv2d, 32, 32, 3, padding=1),
    "slimconv_thirds": partial(SlimConv2d, 33, 33, 3, padding=1, num_splits=3),
    "slimconv_remainder": partial(SlimConv2d, 33, 33, 3, padding=1),
    "octconv": partial(OctConv2d, 8, 16, 3, padding=1),
}


class Observed(TorchDispatchMode):
    """Names the operators that run; layers then run as they are drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func._overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def everything(layer: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Return the output, all gradients and all buffers after one step."""
    x = x.clone().requires_grad_()
    layer.zero_grad()
    y = layer(x)
    (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
    gradients = {f"{name}.grad": parameter.grad.clone() for name, parameter in layer.named_parameters()}
    return {"y": y.detach(), "x.grad": x.grad, **gradients, **{k: v.clone() for k, v in layer.named_buffers()}}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_output_gradients_and_statistics_are_those_of_the_drawn_form(make, memory_format, training):
    torch.manual_seed(0)
    layer = make(dtype=torch.float64).to(memory_format=memory_format).train(training)
    x = torch.randn(3, layer.in_channels, 6, 5, dtype=torch.float64).contiguous(memory_format=memory_format)
    fast = everything(copy.deepcopy(layer), x)
    with Observed():
        drawn = everything(layer, x)
    for name, value in drawn.items():
        torch.testing.assert_close(fast[name], value, rtol=1e-9, atol=1e-11, msg=name)


def test_rule():
    x = torch.randn(1, 2, 3, 3)
    conv = nn.Conv2d(2, 2, 1)
    assert runs_in_cpu_form(x, conv)
    assert not runs_in_cpu_form(x.to("meta"), conv)
    assert not runs_in_cpu_form(x.bfloat16(), conv)
    assert not runs_in_cpu_form(x, nn.Sequential())
    with torch.autocast("cpu", torch.bfloat16):
        assert not runs_in_cpu_form(x, conv)
    with Observed():
        assert not runs_in_cpu_form(x, conv)
    seen = []
    torch.func.vmap(lambda x: seen.append(runs_in_cpu_form(x, conv)) or x)(x)
    assert seen == [False]
    with forward_ad.dual_level():
        assert not runs_in_cpu_form(x, conv)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # torch's own, by torch
@pytest.mark.parametrize("kind", [BSConvU, BSConvS, BDRConv2d, SPConv2d, OctConv2d])
def test_folded_layers_have_tangents(kind):
    layer = kind(16, 16, 3, padding=1).eval()
    folded = layer.fold().requires_grad_(False)
    x, direction = torch.randn(2, 2, 16, 4, 4).unbind()
    x = x.contiguous(memory_format=torch.channels_last)
    with forward_ad.dual_level():
        found, expected = (
            forward_ad.unpack_dual(f(forward_ad.make_dual(x, direction))).tangent for f in (folded, layer)
        )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("register", ["register_forward_pre_hook", "register_forward_hook"])
def test_modules_with_hooks_are_called(register):
    layer, calls = BDRConv2d(8, 8, 3, padding=1).to(memory_format=torch.channels_last), []
    for module in (layer.main_conv, layer.diversity_conv, layer.bn2):
        getattr(module, register)(lambda module, *_: calls.append(module))
    layer(torch.randn(2, 8, 4, 4).contiguous(memory_format=torch.channels_last))
    assert calls == [layer.main_conv, layer.diversity_conv, layer.bn2]


def test_pruned_weights_stay_zero():
    layer, x = BDRConv2d(8, 8, 3, padding=1).eval(), torch.randn(2, 8, 4, 4)
    prune.random_unstructured(layer.diversity_conv, "weight", 1.0)
    y = layer(x)
    layer.diversity_conv.weight_orig.data.fill_(7)
    assert torch.equal(layer(x), y)


@pytest.mark.parametrize("bias", [True, False])
def test_pointwise_of_a_slice_is_a_matrix_product(bias):
    conv = nn.Conv2d(3, 5, 1, bias=bias)
    x = torch.randn(2, 7, 4, 3).contiguous(memory_format=torch.channels_last).narrow(1, 2, 3)
    y = pointwise(conv, x)
    assert y.grad_fn.name() == "PermuteBackward0"
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, conv(x))


@pytest.mark.parametrize(
    ("conv", "in_channels"),
    [(nn.Conv2d(3, 4, 1), 3), (nn.Conv2d(3, 4, 1, stride=2), 7), (nn.Conv2d(3, 3, 1, groups=3), 7)],
)
def test_pointwise_is_the_convolution_elsewhere(conv, in_channels):
    x = torch.randn(2, in_channels, 4, 3).contiguous(memory_format=torch.channels_last).narrow(1, 0, 3)
    assert torch.equal(pointwise(conv, x), conv(x))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("geometry", [{}, {"stride": 2, "dilation": 2}, {"padding": 2}])
@pytest.mark.parametrize("bias", [False, True])  # a folded batch norm leaves one
def test_grouped_is_depthwise_then_a_sum(memory_format, geometry, bias):
    conv = nn.Conv2d(12, 4, 3, groups=4, bias=bias, **geometry)
    x = torch.randn(2, 12, 7, 6).contiguous(memory_format=memory_format)
    y = grouped(conv, x)
    assert y.grad_fn.name() != "ConvolutionBackward0" or y.grad_fn.next_functions[0][0].name() == "ConvolutionBackward0"
    torch.testing.assert_close(y, conv(x))


def test_grouped_in_inference_mode_first_and_a_gradient_after():
    conv, x = nn.Conv2d(12, 4, 3, groups=4), torch.randn(2, 12, 7, 6).contiguous(memory_format=torch.channels_last)
    sum_over_groups.cache_clear()
    with torch.inference_mode():
        y = grouped(conv, x)
    again = grouped(conv, x)
    assert torch.equal(again, y)
    again.sum().backward()
    assert conv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(12, 8, 3, groups=4),
        nn.Conv2d(12, 12, 3, groups=12),
        nn.Conv2d(12, 4, 3, padding=1, groups=4, padding_mode="reflect"),
    ],
)
def test_grouped_is_the_convolution_elsewhere(conv):
    x = torch.randn(2, 12, 7, 6)
    assert torch.equal(grouped(conv, x), conv(x))


STRIDED = """
import torch
from torch import nn
from efficientconv.layers import BDRConv2d
from efficientconv.layers.cpu_forms import keep_to_memory
torch.set_num_threads(2)
for layer in BDRConv2d(16, 32, 3, stride=2, padding=1, bias=False), nn.Conv2d(8, 16, 1, stride=2, bias=False):
    print(layer, flush=True)
    keep_to_memory(layer.to(memory_format=torch.channels_last))
    for batch in (*range(1, 29, 2), *range(1, 29, 2)):
        x = torch.randn(batch, layer.in_channels, 16, 16).contiguous(memory_format=torch.channels_last).requires_grad_()
        layer(x).square().sum().backward()
"""


def test_strided_training_on_two_threads_keeps_to_its_memory():
    """In a process of its own: torch's strided 1×1 convolution ended it with SIGABRT."""
    ended = subprocess.run([sys.executable, "-c", STRIDED], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_narrow_strided_convolutions_are_products_with_the_same_result():
    torch.manual_seed(0)
    options = {"dtype": torch.float64}
    narrow, wide = nn.Conv2d(8, 16, 1, 2, **options), nn.Conv2d(16, 16, 1, 2, **options)
    drawn = nn.Sequential(narrow, nn.Conv2d(16, 16, 1, **options), wide, nn.Conv2d(16, 8, 3, 2, 1, **options))
    model = copy.deepcopy(drawn)
    keep_to_memory(model)
    assert [type(conv) for conv in model] == [StridedPointwise, nn.Conv2d, nn.Conv2d, nn.Conv2d]
    x = torch.randn(3, 8, 13, 11, dtype=torch.float64)
    torch.testing.assert_close(everything(model, x), everything(drawn, x))
    assert model.to("meta")(x.to("meta")).shape == drawn(x).shape
