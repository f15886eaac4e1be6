import math

import pytest
import torch
from torch import nn

from efficientconv.layers import BSConvS, BSConvU, ConvVariant, OrthonormalConv2d

X = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[1.0, 1.0], [1.0, 1.0]]]])


def fill(parameter: torch.Tensor, *values: float) -> None:
    with torch.no_grad():
        parameter.copy_(torch.tensor(values).view(parameter.shape))


def test_bsconv_u_by_hand():
    layer = BSConvU(2, 1, (1, 2))
    fill(layer.pw.weight, 2, -1)  # 1 3 / 5 7
    fill(layer.dw.weight, 1, 2)
    fill(layer.dw.bias, 5)
    assert layer(X).flatten().tolist() == [1 + 6 + 5, 5 + 14 + 5]


def test_bsconv_s_by_hand():
    layer = BSConvS(2, 2, 2, bias=False, p=0.5, min_mid_channels=1)
    fill(layer.pw1.weight, 1, 1)  # 2 3 / 4 5
    fill(layer.pw2.weight, 2, 3)
    fill(layer.dw.weight, *[1] * 8)
    assert layer(X).flatten().tolist() == [2 * 14, 3 * 14]


def test_batch_norm_stands_between_pointwise_and_depthwise():
    layer = BSConvU(2, 1, (1, 2), bias=False, with_bn=True).eval()
    layer.bn.eps = 0.0
    fill(layer.pw.weight, 2, -1)  # 1 3 / 5 7
    fill(layer.bn.bias, 10)
    fill(layer.dw.weight, 1, 2)
    assert layer(X).flatten().tolist() == [11 + 26, 15 + 34]


@pytest.mark.parametrize(
    ("in_channels", "p", "min_mid_channels", "expected"),
    [(3, 0.25, 4, 3), (8, 0.25, 4, 4), (64, 0.25, 4, 16), (30, 1 / 6, 1, 5), (31, 1 / 6, 1, 6), (8, 0, 2, 2)],
)
def test_width_of_the_subspace(in_channels, p, min_mid_channels, expected):
    layer = BSConvS(in_channels, 8, 3, p=p, min_mid_channels=min_mid_channels)
    assert layer.mid_channels == layer.pw1.out_channels == expected


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (BSConvU(64, 128, 3, bias=False), 64 * 128 + 9 * 128),
        (BSConvU(64, 128, 3, with_bn=True), 64 * 128 + 2 * 128 + 9 * 128 + 128),
        (BSConvS(64, 128, 5, bias=False), 64 * 16 + 16 * 128 + 25 * 128),
        (BSConvS(64, 128, 3, bias=False, with_bn=True), 64 * 16 + 2 * 16 + 16 * 128 + 2 * 128 + 9 * 128),
    ],
)
def test_parameter_count(layer, expected):
    assert sum(parameter.numel() for parameter in layer.parameters()) == expected


def test_bias_is_the_depthwise_convolutions():
    layer = BSConvS(8, 8, 3)
    assert layer.bias is layer.dw.bias
    assert [name for name in layer.state_dict() if "bias" in name] == ["dw.bias"]


def test_penalty_by_hand():
    layer = BSConvS(2, 2, 1, p=1)
    fill(layer.pw1.weight, 1, 2, 3, 4)  # W·Wᵀ − I = 4 11 / 11 24
    torch.testing.assert_close(layer.regularization_loss().item(), math.sqrt(16 + 121 + 121 + 576))


def test_penalty_of_orthonormal_rows_is_zero_and_its_gradient_finite():
    layer = OrthonormalConv2d(3, 2, 1)
    fill(layer.weight, 0, 1, 0, 0, 0, -1)
    loss = layer.regularization_loss()
    loss.backward()
    assert loss == 0
    assert layer.weight.grad.isfinite().all()


def test_penalty_is_exact_under_autocast():
    layer = BSConvS(16, 16, 3)
    expected = layer.regularization_loss()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer.regularization_loss(), expected)


def test_penalty_on_the_meta_device():
    assert BSConvS(16, 16, 3, device="meta").regularization_loss().shape == ()


def test_orthonormal_convolution_is_a_plain_one_otherwise():
    plain, layer = nn.Conv2d(8, 4, 1, stride=2), OrthonormalConv2d(8, 4, 1, stride=2)
    layer.load_state_dict(plain.state_dict())
    x = torch.randn(2, 8, 5, 5)
    assert isinstance(layer, nn.Conv2d)
    assert isinstance(layer, ConvVariant)
    assert torch.equal(layer(x), plain(x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BSConvU(8, 8, 3, groups=2), "groups=2: BSConvU is defined for groups=1 only"),
        (lambda: BSConvS(8, 8, 3, groups=2), "groups=2: BSConvS is defined for groups=1 only"),
        (lambda: BSConvS(8, 8, 3, p=1.5), "p=1.5: must lie between 0 and 1"),
        (lambda: BSConvS(8, 8, 3, min_mid_channels=0), "min_mid_channels=0: must be a whole number of at least 1"),
        (lambda: OrthonormalConv2d(8, 8, 3), r"kernel_size=\(3, 3\): OrthonormalConv2d is a 1×1 convolution"),
        (lambda: OrthonormalConv2d(8, 8, 1, groups=2), "groups=2: OrthonormalConv2d is defined for groups=1 only"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()
