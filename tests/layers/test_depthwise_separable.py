import pytest
import torch

from efficientconv.layers import DepthwiseSeparableConv2d


def fill(parameter: torch.Tensor, *values: float) -> None:
    with torch.no_grad():
        parameter.copy_(torch.tensor(values).view(parameter.shape))


def test_by_hand():
    layer = DepthwiseSeparableConv2d(2, 1, 2).eval()
    layer.bn.eps = 0.0
    fill(layer.depthwise.weight, *[1] * 4, *[-1] * 4)
    fill(layer.bn.bias, 1, 5)
    fill(layer.pointwise.weight, 2, 3)
    fill(layer.pointwise.bias, 7)
    x = torch.tensor([1.0, 2, 3, 4]).view(1, 1, 2, 2).expand(1, 2, 2, 2)
    assert layer(x).item() == 2 * 11 + 3 * 0 + 7  # the ReLU cuts −10 + 5 off


def test_parameter_count():
    layer = DepthwiseSeparableConv2d(32, 64, 3, bias=False)
    assert sum(parameter.numel() for parameter in layer.parameters()) == 9 * 32 + 2 * 32 + 32 * 64


def test_bias_is_the_pointwise_convolutions():
    layer = DepthwiseSeparableConv2d(8, 8, 3)
    assert layer.bias is layer.pointwise.bias
    assert layer.depthwise.bias is None


def test_the_hosts_norm_is_left_out_of_the_authors_state():
    layer = DepthwiseSeparableConv2d(8, 4, 3, bias=False)
    names = {"depthwise": "conv_dw.conv", "bn": "conv_dw.bn", "pointwise": "conv_pw.conv"}
    state = {f"{names[key.split('.')[0]]}.{key.split('.')[1]}": value for key, value in layer.state_dict().items()}
    state["conv_pw.bn.weight"] = torch.ones(4)
    assert list(layer.from_authors(state)) == list(layer.state_dict())


def test_refuses_groups():
    with pytest.raises(ValueError, match="groups=2: DepthwiseSeparableConv2d is defined for groups=1 only"):
        DepthwiseSeparableConv2d(8, 8, 3, groups=2)
