from functools import partial

import pytest
import torch
from timm.layers import Conv2dSame, ScaledStdConv2d, ScaledStdConv2dSame, StdConv2dSame
from torch import nn

from efficientconv.compose.build import SamePad2d, adds_to_conv2d, begin_near, build_successor
from efficientconv.layers import BSConvU, DepthwiseSeparableConv2d, OrthonormalConv2d, SPConv2d


def test_the_geometry_is_passed_on():
    conv = nn.Conv2d(8, 4, (3, 5), stride=(1, 2), padding=(2, 4), dilation=2, bias=False, padding_mode="circular")
    layer = build_successor(BSConvU, conv).layer
    for name in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "padding_mode"):
        assert getattr(layer, name) == getattr(conv, name), name
    assert layer.bias is None
    assert build_successor(BSConvU, nn.Conv2d(8, 4, 3)).layer.bias is not None


def test_device_dtype_mode_and_frozenness_are_passed_on():
    conv = nn.Conv2d(8, 4, 3, device="meta", dtype=torch.bfloat16).eval().requires_grad_(False)
    successor = build_successor(BSConvU, conv)
    parameters = list(successor.module.parameters())
    assert {(p.device.type, p.dtype, p.requires_grad) for p in parameters} == {("meta", torch.bfloat16, False)}
    assert not successor.module.training
    assert build_successor(BSConvU, nn.Conv2d(8, 4, 3)).module.training


def test_a_convolution_of_the_same_shape_takes_over_the_weights():
    conv = nn.Conv2d(8, 4, 1)
    successor = build_successor(OrthonormalConv2d, conv)
    assert successor.is_same
    assert torch.equal(successor.layer.weight, conv.weight)
    assert torch.equal(successor.layer.bias, conv.bias)
    assert not build_successor(BSConvU, conv).is_same


def test_a_depthwise_separable_unit_is_replaced_whole():
    unit = DepthwiseSeparableConv2d(8, 16, 3, stride=2, padding=1, bias=False)
    successor = build_successor(BSConvU, unit)
    assert isinstance(successor.module, BSConvU)
    assert successor.module(torch.randn(2, 8, 7, 7)).shape == (2, 16, 4, 4)


@pytest.mark.parametrize("size", [6, 7, 8, 9])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(3, 2, 1), (5, 2, 1), (2, 2, 1), (3, 3, 2), (3, 1, 1), (1, 2, 1)]
)
def test_same_padding_in_front_computes_what_conv2d_same_does(size, kernel, stride, dilation):
    conv = Conv2dSame(3, 4, kernel, stride=stride, dilation=dilation)
    x = torch.randn(2, 3, size, size + 1)
    torch.testing.assert_close(build_successor(nn.Conv2d, conv).module(x), conv(x))


def test_same_padding_in_front_only_where_it_depends_on_the_size():
    assert build_successor(BSConvU, Conv2dSame(4, 4, 3, stride=2)).note == "same-padding in front"
    static = build_successor(BSConvU, Conv2dSame(4, 4, 3, stride=1))
    assert isinstance(static.module, BSConvU)
    assert static.note == ""


@pytest.mark.parametrize("size", [7, 8])
def test_branched_layers_get_symmetric_padding_of_the_same_output_size(size):
    conv = Conv2dSame(8, 8, 3, stride=2)
    successor = build_successor(SPConv2d, conv)
    x = torch.randn(2, 8, size, size)
    assert successor.module(x).shape == conv(x).shape
    assert successor.note == "symmetric padding in place of Conv2dSame's"


def test_branched_layers_refuse_an_even_same_kernel():
    with pytest.raises(ValueError, match="an odd kernel_size"):
        build_successor(SPConv2d, Conv2dSame(8, 8, 2, stride=2))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (3, 2), (4, 1), ((3, 2), 1)])
def test_paddings_in_words(padding, mode, kernel, dilation):
    conv = nn.Conv2d(3, 4, kernel, padding=padding, dilation=dilation, padding_mode=mode)
    x = torch.randn(2, 3, 9, 8)
    torch.testing.assert_close(build_successor(nn.Conv2d, conv).module(x), conv(x))


def test_same_pad_puts_what_cannot_be_shared_to_the_right_and_the_bottom():
    pad = SamePad2d((3, 3), (2, 2), (1, 1))
    padded = pad(torch.ones(1, 1, 4, 5))
    assert padded.shape == (1, 1, 5, 7)
    assert padded[0, 0, :, 3].tolist() == [1, 1, 1, 1, 0]
    assert padded[0, 0, 0].tolist() == [0, 1, 1, 1, 1, 1, 0]


def test_what_a_subclass_adds_is_named():
    conv = ScaledStdConv2d(4, 4, 3)
    assert adds_to_conv2d(conv)
    assert build_successor(BSConvU, conv).note == "what ScaledStdConv2d adds to nn.Conv2d is lost"
    assert not build_successor(nn.Conv2d, conv).is_same
    assert not adds_to_conv2d(nn.Conv2d(4, 4, 3))
    assert not adds_to_conv2d(Conv2dSame(4, 4, 3))


@pytest.mark.parametrize("standardised", [StdConv2dSame, ScaledStdConv2dSame])
@pytest.mark.parametrize("size", [16, 17])
def test_padding_by_input_is_found_by_trying(standardised, size):
    conv = standardised(4, 8, 3, stride=2, padding="same")
    successor = build_successor(BSConvU, conv)
    x = torch.randn(2, 4, size, size)
    assert successor.module(x).shape == conv(x).shape
    assert successor.note == f"same-padding in front; what {standardised.__name__} adds to nn.Conv2d is lost"


def test_another_output_size_than_a_convolution_has_is_refused():
    class Pooled(nn.Conv2d):
        def forward(self, x):
            return nn.functional.avg_pool2d(super().forward(x), 2)

    with pytest.raises(ValueError, match=r"Pooled outputs \(6, 6\) pixels for an input of \(12, 12\), not \(12, 12\)"):
        build_successor(BSConvU, Pooled(4, 4, 3, padding=1))


def test_a_layer_may_not_widen():
    def wide(in_channels, out_channels, kernel_size, **others):
        return nn.Conv2d(in_channels, out_channels + 1, kernel_size, **others)

    with pytest.raises(ValueError, match="out_channels=5: more than the 4 of the convolution"):
        build_successor(wide, nn.Conv2d(4, 4, 3))


def test_a_factory_of_something_else_is_refused():
    with pytest.raises(TypeError, match=r"nn\.Conv2d; this one returned a Linear"):
        build_successor(lambda i, o, k, **others: nn.Linear(i, o), nn.Conv2d(4, 4, 3))


def test_the_layers_refusal_comes_through():
    with pytest.raises(ValueError, match="groups=2: BSConvU is defined for groups=1 only"):
        build_successor(partial(BSConvU, with_bn=True), nn.Conv2d(4, 4, 3, groups=2))


def test_begins_near_a_plain_convolution_alone():
    conv = nn.Conv2d(8, 8, 3, padding=1)
    assert 0 < begin_near(build_successor(BSConvU, conv).layer, conv) < 1
    assert begin_near(build_successor(OrthonormalConv2d, nn.Conv2d(8, 4, 1)).layer, nn.Conv2d(8, 4, 1)) == 0
    standardised = ScaledStdConv2d(8, 8, 3, padding=1)
    assert begin_near(build_successor(BSConvU, standardised).layer, standardised) is None
    unit = DepthwiseSeparableConv2d(8, 16, 3)
    assert begin_near(build_successor(BSConvU, unit).layer, unit) is None


def test_another_shape_of_a_plain_convolution_begins_anew():
    conv = nn.Conv2d(8, 8, 3, padding=1)
    assert begin_near(nn.Conv2d(8, 8, 1), conv) is None
