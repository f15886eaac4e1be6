"""Every layer × every clause of the contract: a layer joins by one line of ``CASES``."""

from __future__ import annotations

import copy
import inspect
import io
import itertools
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from efficientconv import layers
from efficientconv.layers import (
    ACConv2d,
    BDRConv2d,
    BSConvS,
    BSConvU,
    CondConv2d,
    ConvVariant,
    DepthwiseSeparableConv2d,
    DOConv2d,
    DualConv2d,
    GhostConv2d,
    HetConv2d,
    OctConv2d,
    ODConv2d,
    OrthonormalConv2d,
    PConv2d,
    RepVGGConv2d,
    SCConv2d,
    SlimConv2d,
    SPConv2d,
    SSDConv2d,
)


@dataclass(frozen=True)
class Case:
    """A layer and the geometries it must keep.

    ``channels``: pairs (in, out). ``strides``: what it can do, the last one where one is enough. ``any_padding``: the
    layer has no side branch that ties its padding to its kernel. ``has_bias``: ``bias=True`` makes a parameter.
    """

    make: Callable[..., nn.Module]
    channels: tuple[tuple[int, int], ...]
    groups: int = 1
    kernels: tuple[int | tuple[int, int], ...] = (1, 3, 5, (3, 5))
    strides: tuple[int | tuple[int, int], ...] = (1, 3, (2, 1), 2)
    any_padding: bool = False
    has_bias: bool = True

    @property
    def layer(self) -> type[nn.Module]:
        return self.make.func if isinstance(self.make, partial) else self.make

    @property
    def stride(self) -> int | tuple[int, int]:
        return self.strides[-1]

    def build(self, kernel_size=None, in_out=None, stride=1, dilation=1, bias=True, **factory) -> nn.Module:
        """Build the layer, in its first channels and its 3×3 (or only) kernel unless told otherwise."""
        kernel_size = kernel_size or (3 if 3 in self.kernels else self.kernels[0])
        return self.make(
            *(in_out or self.channels[0]),
            kernel_size,
            stride=stride,
            padding=same_padding(kernel_size, dilation),
            dilation=dilation,
            groups=self.groups,
            bias=bias,
            **factory,
        )

    def input(self, *size: int, batch: int = 3, **factory) -> Tensor:
        return torch.randn(batch, self.channels[0][0], *(size or (9, 8)), **factory)


def same_padding(kernel_size, dilation) -> tuple[int, int]:
    pair = kernel_size if isinstance(kernel_size, tuple) else (kernel_size, kernel_size)
    return tuple(dilation * (k - 1) // 2 for k in pair)


CASES = {
    "bsconv_u": Case(BSConvU, ((8, 16), (3, 5), (16, 4)), any_padding=True),
    "bsconv_u_bn": Case(partial(BSConvU, with_bn=True), ((8, 16), (3, 5)), any_padding=True),
    "bsconv_s": Case(partial(BSConvS, p=0.5), ((16, 8), (3, 5)), any_padding=True),
    "bsconv_s_bn": Case(partial(BSConvS, with_bn=True), ((8, 16), (3, 5)), any_padding=True),
    "orthonormal": Case(OrthonormalConv2d, ((16, 8), (3, 5)), kernels=(1,), any_padding=True),
    "depthwise_separable": Case(DepthwiseSeparableConv2d, ((8, 16), (3, 5)), any_padding=True),
    "doconv": Case(DOConv2d, ((8, 16), (3, 5), (16, 4)), any_padding=True),
    "doconv_depthwise": Case(DOConv2d, ((8, 8), (8, 16)), groups=8, any_padding=True),
    "doconv_grouped": Case(partial(DOConv2d, d_mul=28), ((8, 16), (16, 8)), groups=4, any_padding=True),
    "spconv": Case(SPConv2d, ((8, 16), (4, 6), (16, 8)), has_bias=False),
    "spconv_eighth": Case(partial(SPConv2d, alpha=0.125), ((16, 16),), has_bias=False),
    "slimconv": Case(SlimConv2d, ((64, 64), (33, 33)), any_padding=True, has_bias=False),
    "slimconv_restored": Case(partial(SlimConv2d, restore_width=True), ((32, 32),), any_padding=True, has_bias=False),
    "slimconv_grouped": Case(partial(SlimConv2d, num_splits=3), ((96, 96),), 16, any_padding=True, has_bias=False),
    "bdrconv": Case(BDRConv2d, ((8, 16), (8, 8), (3, 8)), has_bias=False),
    "bdrconv_3": Case(partial(BDRConv2d, main_kernel_size=3), ((8, 16),), has_bias=False),
    "bdrconv_thirds": Case(partial(BDRConv2d, in_ratio=4, out_ratio=3, expansion=3), ((8, 18),), has_bias=False),
    "ghost": Case(GhostConv2d, ((8, 16), (3, 5), (16, 4)), any_padding=True),
    "ghost_bn": Case(partial(GhostConv2d, ratio=3, with_bn=True), ((8, 16), (3, 5)), any_padding=True, has_bias=False),
    "hetconv": Case(HetConv2d, ((8, 16), (4, 5)), any_padding=True),
    "hetconv_approximate": Case(partial(HetConv2d, p=2, approximate=True), ((8, 16), (4, 6))),
    "octconv": Case(OctConv2d, ((8, 16), (3, 5), (16, 4))),
    "octconv_first": Case(partial(OctConv2d, alpha_in=0), ((3, 8),)),
    "octconv_last": Case(partial(OctConv2d, alpha_in=0.25, alpha_out=0), ((8, 16),)),
    "octconv_depthwise": Case(OctConv2d, ((8, 8),), groups=8),
    "ssdconv": Case(SSDConv2d, ((8, 16), (10, 6)), has_bias=False),
    "ssdconv_down": Case(partial(SSDConv2d, in_ratio=0.5, expansion=4), ((8, 16), (3, 8)), has_bias=False),
    "dualconv": Case(DualConv2d, ((8, 16), (4, 6))),
    "pconv": Case(PConv2d, ((8, 8), (7, 7)), strides=(1,)),
    "scconv": Case(SCConv2d, ((32, 32), (16, 24), (16, 8)), strides=(1,)),
    "condconv": Case(partial(CondConv2d, num_experts=4), ((8, 16), (3, 5)), any_padding=True),
    "condconv_depthwise": Case(partial(CondConv2d, num_experts=2), ((8, 8),), 8, any_padding=True),
    "odconv": Case(ODConv2d, ((8, 16), (3, 5)), any_padding=True),
    "odconv_single": Case(partial(ODConv2d, num_kernels=1), ((8, 16),), any_padding=True),
    "odconv_pointwise": Case(partial(ODConv2d, num_kernels=1), ((8, 16),), kernels=(1,), any_padding=True),
    "odconv_depthwise": Case(partial(ODConv2d, num_kernels=2), ((8, 8),), 8, any_padding=True),
    "repvgg": Case(RepVGGConv2d, ((8, 8), (8, 16), (3, 5)), has_bias=False),
    "repvgg_grouped": Case(RepVGGConv2d, ((8, 8), (8, 16)), 4, has_bias=False),
    "acnet": Case(ACConv2d, ((8, 16), (3, 5)), has_bias=False),
    "acnet_depthwise": Case(ACConv2d, ((8, 8),), 8, has_bias=False),
}
SIZES = ((8, 8), (7, 7), (9, 6))


FIRST_OF_EACH_LAYER = list({case.layer: name for name, case in reversed(CASES.items())}.values())

FURTHER = [pytest.param(name, marks=pytest.mark.slow) for name in CASES if name not in FIRST_OF_EACH_LAYER]


@pytest.fixture(params=CASES)
def case(request) -> Case:
    torch.manual_seed(0)
    return CASES[request.param]


def geometries(case: Case) -> Iterator[dict]:
    for kernel_size in case.kernels:
        for stride, dilation in (*((stride, 1) for stride in case.strides), (case.stride, 2)):
            yield {"kernel_size": kernel_size, "stride": stride, "dilation": dilation}


def moved(layer: nn.Module, case: Case) -> nn.Module:
    """Take a few training steps, so that weights and batch-norm statistics are no longer where they started."""
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.05, momentum=0.9)
    for _ in range(4):
        dtype = next(layer.parameters()).dtype
        x = (2 * case.input(dtype=dtype) + 1).clamp(min=-1)
        optimizer.zero_grad()
        layer(x).square().mean().backward()
        optimizer.step()
    return layer


def test_every_exported_layer_is_a_case():
    exported = {value for value in vars(layers).values() if inspect.isclass(value) and issubclass(value, ConvVariant)}
    assert exported - {ConvVariant} == {case.layer for case in CASES.values()}


def test_signature_is_that_of_conv2d_then_keywords(case):
    parameters = list(inspect.signature(case.layer).parameters.values())
    shared = list(inspect.signature(nn.Conv2d).parameters.values())
    assert [(p.name, p.default) for p in parameters[: len(shared)]] == [(p.name, p.default) for p in shared]
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[len(shared) :])


def test_arguments_are_attributes(case):
    stride = (2, 1) if (2, 1) in case.strides else 1
    layer, conv = case.build(stride=stride, dilation=2), nn.Conv2d(*case.channels[0], 1)
    assert isinstance(layer, ConvVariant)
    assert layer.in_channels == conv.in_channels
    assert layer.out_channels == layer(case.input()).shape[1]
    assert layer.stride == (stride if isinstance(stride, tuple) else (1, 1))
    assert layer.dilation == (2, 2)
    assert layer.groups == case.groups
    assert layer.padding_mode == "zeros"


@torch.no_grad()
def test_output_size_is_that_of_conv2d(case):
    for geometry in geometries(case):
        padding = same_padding(geometry["kernel_size"], geometry["dilation"])
        layer, conv = case.build(**geometry), nn.Conv2d(1, 1, padding=padding, **geometry)
        for size in SIZES:
            x = case.input(*size, batch=2)
            expected = conv(x[:, :1]).shape[2:]
            assert layer(x).shape == (2, layer.out_channels, *expected), (geometry, size)


def test_any_padding_or_refusal(case):
    kernel_size = 3 if 3 in case.kernels else case.kernels[0]
    for padding, mode in itertools.product((0, (2, 1), 3), ("zeros", "circular")):
        make = partial(
            case.make, *case.channels[0], kernel_size, padding=padding, padding_mode=mode, groups=case.groups
        )
        if not case.any_padding:
            with pytest.raises(ValueError, match="padding"):
                make()
            continue
        x = case.input()
        expected = nn.Conv2d(1, 1, kernel_size, padding=padding, padding_mode=mode)(x[:, :1]).shape[2:]
        assert make()(x).shape[2:] == expected


def test_padding_modes(case):
    for mode in ("zeros", "reflect", "replicate", "circular"):
        layer = case.build(padding_mode=mode)
        assert layer(case.input()).shape == (3, layer.out_channels, 9, 8)


def test_channels(case):
    for in_channels, out_channels in case.channels:
        layer = case.build(in_out=(in_channels, out_channels))
        assert layer(torch.randn(2, in_channels, 5, 5)).shape == (2, layer.out_channels, 5, 5)


def test_bias_is_a_parameter_or_none(case):
    assert case.build(bias=False).bias is None
    layer = case.build(bias=True)
    assert (layer.bias is not None) == case.has_bias
    assert layer.bias is None or any(layer.bias is parameter for parameter in layer.parameters())


def test_gradients_reach_every_parameter(case):
    layer = case.build()
    layer(case.input()).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_autocast_bf16(case):
    layer, x = case.build(), case.input(requires_grad=True)
    exact = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    assert (y.float() - exact).abs().max() <= 0.05 * exact.abs().max()
    y.float().square().mean().backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in layer.parameters())


def test_bfloat16_and_float64_modules(case):
    for dtype in (torch.bfloat16, torch.float64):
        assert case.build(dtype=dtype)(case.input(dtype=dtype)).dtype == dtype


def test_channels_last(case):
    layer, x = case.build(stride=case.stride).eval(), case.input()
    expected = layer(x)
    y = layer.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)


def test_meta_device_then_reset(case):
    layer = case.build(device="meta", stride=case.stride)
    assert all(tensor.is_meta for tensor in layer.state_dict().values())
    assert layer(case.input(device="meta")).shape == (3, layer.out_channels, *(-(-n // case.stride) for n in (9, 8)))
    layer = layer.to_empty(device="cpu")
    for tensor in layer.state_dict().values():
        tensor.fill_(77)
    layer.reset_parameters()
    assert not any((tensor == 77).any() for tensor in layer.state_dict().values())
    assert layer(case.input()).isfinite().all()


def test_meta_device_then_load(case):
    source = moved(case.build(), case).eval()
    layer = case.build(device="meta").to_empty(device="cpu").eval()
    layer.load_state_dict(source.state_dict())
    x = case.input()
    assert torch.equal(layer(x), source(x))


def test_state_dict_round_trip(case):
    source, file, x = moved(case.build(), case).eval(), io.BytesIO(), case.input()
    torch.save(source.state_dict(), file)
    file.seek(0)
    layer = case.build().eval()
    layer.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(layer(x), source(x))


def test_same_seed_same_start(case):
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(case.build().state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_compute_the_same(case, copied):
    layer, x = moved(case.build(), case).eval(), case.input()
    with torch.no_grad():
        y = layer(x)
        twin = copied(layer)
        assert torch.equal(twin(x), y)
        for parameter in layer.parameters():
            parameter.add_(1)
        assert torch.equal(twin(x), y)


@pytest.mark.parametrize("case", FIRST_OF_EACH_LAYER + FURTHER, indirect=True)
def test_export_with_dynamic_batch(case):
    layer = moved(case.build(stride=case.stride), case).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(layer, (case.input(),), dynamic_shapes=({0: batch},)).module()
    x = case.input(batch=5)
    torch.testing.assert_close(exported(x), layer(x))


@pytest.mark.parametrize("case", FIRST_OF_EACH_LAYER + FURTHER, indirect=True)
def test_compiles_without_graph_breaks(case):
    layer, x = case.build(stride=case.stride, dtype=torch.float64), case.input(dtype=torch.float64)
    compiled = torch.compile(copy.deepcopy(layer), fullgraph=True, backend="aot_eager")
    y, expected = compiled(x), layer(x)
    torch.testing.assert_close(y, expected)
    y.sum().backward()
    expected.sum().backward()
    for (name, a), b in zip(layer.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("case", FIRST_OF_EACH_LAYER, indirect=True)
def test_inductor(case):
    layer = moved(case.build(stride=case.stride), case).eval()
    compiled, x = torch.compile(copy.deepcopy(layer), fullgraph=True), case.input()
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), layer(x), rtol=1e-4, atol=1e-5)


def test_fold(case):
    for geometry in ({}, {"stride": case.stride}, {"dilation": 2, "bias": False}):
        layer, x = moved(case.build(**geometry), case), case.input()
        before = copy.deepcopy(layer.state_dict())
        folded = layer.fold()
        assert layer.training
        assert not folded.training
        assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
        a, b = layer.eval()(x), folded(x)
        assert (a - b).abs().max() <= 1e-5 * max(1, a.abs().max())
        with torch.no_grad():
            for parameter in folded.parameters():
                parameter.zero_()
        assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


def test_fold_twice(case):
    layer, x = moved(case.build(), case).eval(), case.input()
    once = layer.fold()
    again = once.fold() if isinstance(once, ConvVariant) else once
    torch.testing.assert_close(again(x), once(x))


def test_regularization_loss_is_a_differentiable_scalar_or_zero(case):
    loss = case.build().regularization_loss()
    assert loss.shape == ()
    assert loss.requires_grad == (case.layer.regularization_loss is not ConvVariant.regularization_loss)
    assert loss > 0 if loss.requires_grad else loss == 0
