import pytest
import torch
from timm.layers import CondConv2d as TimmCondConv2d
from torch import nn
from torch.nn import functional as F

from efficientconv.layers import CondConv2d


def fill(parameter: torch.Tensor, *values: float) -> None:
    with torch.no_grad():
        parameter.copy_(torch.tensor(values).view(parameter.shape))


def test_by_hand():
    layer = CondConv2d(1, 1, 1, num_experts=2)
    fill(
        layer.routing.weight, 1e6, -1e6
    )  # positive images get the first expert, negative ones the second, 0 half of both
    fill(layer.routing.bias, 0, 0)
    fill(layer.weight, 2, 30)
    fill(layer.bias, 1, 10)
    x = torch.tensor([[4.0, 4.0], [-4.0, -4.0], [-3.0, 3.0]]).view(3, 1, 1, 2)
    assert layer(x).squeeze().tolist() == [[9, 9], [-110, -110], [-42.5, 53.5]]


@pytest.mark.parametrize("geometry", [{}, {"stride": 2, "groups": 2}, {"padding_mode": "reflect", "dilation": 2}])
def test_is_an_ordinary_convolution_image_by_image(geometry):
    torch.manual_seed(0)
    layer, x = CondConv2d(4, 6, 3, padding=2, num_experts=3, **geometry), torch.randn(5, 4, 7, 6)
    routing = torch.sigmoid(layer.routing(x.mean((2, 3))))
    conv = nn.Conv2d(4, 6, 3, padding=2, **geometry)
    for image, weights, y in zip(x, routing, layer(x), strict=True):
        conv.weight = nn.Parameter((weights @ layer.weight).view_as(conv.weight))
        conv.bias = nn.Parameter(weights @ layer.bias)
        torch.testing.assert_close(y, conv(image[None])[0])


@pytest.mark.parametrize(("groups", "stride", "bias"), [(1, 1, True), (4, 2, False), (8, 1, True)])
def test_output_is_that_of_timms_layer_with_the_same_weights(groups, stride, bias):
    torch.manual_seed(0)
    factory = {"bias": bias, "dtype": torch.float64}
    theirs = TimmCondConv2d(8, 16, 3, stride, 1, groups=groups, num_experts=4, **factory)
    routing_fn = nn.Linear(8, 4, dtype=torch.float64)
    state = {**theirs.state_dict(), **{f"routing_fn.{name}": value for name, value in routing_fn.state_dict().items()}}
    ours = CondConv2d(8, 16, 3, stride, 1, groups=groups, num_experts=4, **factory)
    ours.load_state_dict(ours.from_authors(state))
    x = torch.randn(3, 8, 9, 7, dtype=torch.float64)
    expected = theirs(x, torch.sigmoid(routing_fn(F.adaptive_avg_pool2d(x, 1).flatten(1))))
    torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-12)


def test_experts_start_as_convolutions_do():
    layer = CondConv2d(4, 8, 3, groups=2, num_experts=16)
    bound = 1 / (2 * 9) ** 0.5
    for parameter in (layer.weight, layer.bias):
        assert 0.9 * bound < parameter.abs().max() <= bound


def test_parameter_count():
    layer = CondConv2d(8, 16, 3, groups=2, num_experts=5)
    assert sum(parameter.numel() for parameter in layer.parameters()) == 5 * (8 // 2 * 16 * 9 + 16) + 5 * 8 + 5


def test_fold_is_a_copy_that_still_looks_at_the_image():
    layer = CondConv2d(4, 4, 3, padding=1)
    folded = layer.fold()
    assert isinstance(folded, CondConv2d)
    assert folded is not layer
    assert not folded.training


def test_refuses():
    with pytest.raises(ValueError, match="num_experts=0: must be a whole number of at least 1"):
        CondConv2d(8, 8, 3, num_experts=0)


def test_shows_what_it_is():
    assert CondConv2d(2, 4, 1).extra_repr().endswith("bias=True, num_experts=8")
