import pytest
import torch
from torch import nn

from efficientconv.layers import ODConv2d


def fill(parameter: torch.Tensor, *values: float) -> None:
    with torch.no_grad():
        parameter.copy_(torch.tensor(values).view(parameter.shape))


def by_hand(kernel_size: int = 1) -> ODConv2d:
    """1 → 2 channels, two kernels; the attention passes the mean on, each head gives zeros (a weight of 1/2)."""
    layer = ODConv2d(1, 2, kernel_size, padding=kernel_size // 2, num_kernels=2, min_attention_channels=1).eval()
    layer.attention.bn.eps = 0.0
    fill(layer.attention.fc.weight, 1)
    for head in (layer.channel_fc, layer.filter_fc, layer.spatial_fc, layer.kernel_fc):
        if head is not None:
            nn.init.zeros_(head.weight)
    return layer


def test_all_attentions_at_one_half_by_hand():
    layer = by_hand(kernel_size=3)
    nn.init.ones_(layer.weight[0])
    nn.init.constant_(layer.weight[1], 3)
    fill(layer.bias, 0, 10)
    y = layer(torch.full((1, 1, 3, 3), 8.0))
    # kernels mixed to 2, halved by position, channel and filter: 1/4 for each of the pixels in reach, which are 8
    assert y[0, 0].tolist() == [[8, 12, 8], [12, 18, 12], [8, 12, 8]]
    assert torch.equal(y[0, 1], y[0, 0] + 10)


def test_attention_depends_on_the_image_by_hand():
    layer = by_hand()
    fill(layer.weight, 4, 8, 40, 80)
    fill(layer.kernel_fc.weight, 1e6, 0)  # the first kernel for bright images; half of both where the ReLU gives 0
    y = layer(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
    assert y.flatten(1).tolist() == [[1, 2], [-5.5, -11]]  # a quarter by channel and filter


def test_spatial_attention_weights_positions():
    layer = by_hand(kernel_size=3)
    nn.init.ones_(layer.weight)
    nn.init.constant_(layer.spatial_fc.bias, -1e6)
    layer.spatial_fc.bias.data[4] = 1e6  # the centre alone
    assert layer(torch.full((1, 1, 3, 3), 8.0)).eq(2).all()


def test_temperature_flattens_the_attentions():
    layer = by_hand()
    fill(layer.weight, 4, 8, 40, 80)
    fill(layer.kernel_fc.bias, 6.0, 0.0)
    fill(layer.channel_fc.bias, 3.0)
    layer.temperature.fill_(30)
    w, c = torch.tensor([0.2, 0.0]).softmax(0), torch.sigmoid(torch.tensor(0.1))
    expected = c * (w[0] * torch.tensor([4.0, 8.0]) + w[1] * torch.tensor([40.0, 80.0])) / 2
    torch.testing.assert_close(layer(torch.ones(1, 1, 1, 1)).flatten(), expected)


def test_temperature_is_saved_with_the_weights():
    layer, other = ODConv2d(4, 4, 3), ODConv2d(4, 4, 3)
    layer.temperature.fill_(7)
    other.load_state_dict(layer.state_dict())
    assert other.temperature == 7
    other.reset_parameters()
    assert other.temperature == 1


def test_is_an_ordinary_convolution_image_by_image():
    torch.manual_seed(0)
    layer, x = ODConv2d(4, 6, (3, 5), 2, (1, 2), groups=2, num_kernels=3).eval(), torch.randn(5, 4, 7, 6)
    for image, y in zip(x, layer(x), strict=True):
        torch.testing.assert_close(y, layer(image[None])[0])


def test_what_there_is_nothing_to_attend_to_is_left_out():
    assert ODConv2d(8, 8, 1).spatial_fc is None
    assert ODConv2d(8, 8, 3, num_kernels=1).kernel_fc is None
    assert ODConv2d(8, 8, 3, groups=8).filter_fc is None
    assert ODConv2d(8, 16, 3, groups=8).filter_fc is not None


@pytest.mark.parametrize(("i", "o", "n", "a"), [(64, 64, 4, 16), (512, 256, 1, 32), (32, 64, 2, 16)])
def test_parameter_count(i, o, n, a):
    heads = (a + 1) * (i + o + 9 + (n if n > 1 else 0))
    layer = ODConv2d(i, o, 3, bias=False, num_kernels=n)
    assert sum(parameter.numel() for parameter in layer.parameters()) == n * 9 * i * o + i * a + 2 * a + heads


def test_starts_as_the_authors_do():
    torch.manual_seed(0)
    layer = ODConv2d(64, 32, 3, groups=2)
    assert layer.weight.std().item() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.02)  # fan-out 32·9
    assert all(conv.bias is None or conv.bias.eq(0).all() for conv in layer.modules() if isinstance(conv, nn.Conv2d))
    assert layer.bias.eq(0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_kernels": 0}, "num_kernels=0: must be a whole number of at least 1"),
        ({"min_attention_channels": 0}, "min_attention_channels=0: must be a whole number of at least 1"),
        ({"reduction": 0}, "reduction=0: must be positive; the paper uses 1/16 = 0.0625"),
        ({"reduction": float("nan")}, "reduction=nan: must be positive"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        ODConv2d(8, 8, 3, **arguments)


def test_shows_what_it_is():
    assert ODConv2d(2, 4, 1, bias=False).extra_repr().endswith("bias=False, num_kernels=4")
