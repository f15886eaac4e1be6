import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet50

from efficientconv.layers import OctConv2d
from efficientconv.profiling import complexity

Pair = tuple[Tensor, Tensor]  # high-frequency channels, and low-frequency ones at half the resolution


def fill(parameter: Tensor, *values: float) -> None:
    with torch.no_grad():
        parameter.copy_(torch.tensor(values).view(parameter.shape))


def packed(high: Tensor, low: Tensor) -> Tensor:
    return torch.cat((high, low.repeat_interleave(2, 2).repeat_interleave(2, 3)), 1)


def by_hand(stride: int = 1) -> OctConv2d:
    """1 + 1 → 1 + 1 channels: high = 1·high + 2·low + 100, low = 3·high + 4·low + 200."""
    layer = OctConv2d(2, 2, 1, stride)
    fill(layer.weight, 1, 2, 3, 4)
    fill(layer.bias, 100, 200)
    return layer


def test_by_hand():
    high = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    y = by_hand()(packed(high, torch.full((1, 1, 1, 1), 10.0)))
    assert y[0, 0].flatten().tolist() == [121, 122, 123, 124]
    assert y[0, 1].flatten().tolist() == [3 * 2.5 + 40 + 200] * 4


def test_stride_2_pools_by_hand():
    high = torch.tensor([1.0, 2, 3, 4]).view(1, 1, 2, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    low = torch.tensor([[[[10.0, 20.0], [30.0, 40.0]]]])
    y = by_hand(stride=2)(packed(high, low))
    assert y[0, 0].flatten().tolist() == [121, 142, 163, 184]  # low → high at low's own resolution
    assert y[0, 1].flatten().tolist() == [3 * 2.5 + 4 * 25 + 200] * 4


def test_odd_size_by_hand():
    high = torch.arange(9.0).view(1, 1, 3, 3)
    low = torch.tensor([[10.0, 10, 20], [10, 10, 20], [30, 30, 40]]).view(1, 1, 3, 3)
    y = by_hand()(torch.cat((high, low), 1))
    assert torch.equal(y[0, 0], (high + 2 * low + 100)[0, 0])
    pooled = (
        high[..., :2, :2].mean(),
        high[..., :2, 2].mean(),
        high[..., 2, :2].mean(),
        high[0, 0, 2, 2],
    )  # 2 3.5 6.5 8
    a, b, c, d = (3 * mean + 4 * ten + 200 for mean, ten in zip(pooled, (10, 20, 30, 40), strict=True))
    assert y[0, 1].tolist() == [[a, a, b], [a, a, b], [c, c, d]]


def test_without_low_frequencies_it_is_an_ordinary_convolution():
    layer, conv = OctConv2d(4, 6, 3, padding=1, alpha_in=0, alpha_out=0), nn.Conv2d(4, 6, 3, padding=1)
    conv.load_state_dict(layer.state_dict())
    x = torch.randn(2, 4, 7, 7)
    assert torch.equal(layer(x), conv(x))


def test_depthwise_keeps_the_resolutions_apart():
    layer = OctConv2d(4, 4, 3, padding=1, groups=4, bias=False)
    high, low = torch.randn(2, 2, 8, 8), torch.randn(2, 2, 4, 4)
    expected = packed(
        *(F.conv2d(x, w, padding=1, groups=2) for x, w in zip((high, low), layer.weight.split(2), strict=True))
    )
    torch.testing.assert_close(layer(packed(high, low)), expected)


class Octaves(nn.Module):
    """A network of two residual units, the second of stride 2, between a first and a last octave convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first = OctConv2d(3, 8, 3, padding=1, bias=False, alpha_in=0)
        self.conv1 = OctConv2d(8, 8, 3, padding=1, alpha_in=0.5, alpha_out=0.5)
        self.conv2 = OctConv2d(8, 12, 3, stride=2, padding=1, alpha_in=0.5, alpha_out=0.25)
        self.shortcut = OctConv2d(8, 12, 1, stride=2, alpha_in=0.5, alpha_out=0.25)
        self.last = OctConv2d(12, 5, 1, alpha_in=0.25, alpha_out=0)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in (8, 8, 12, 12))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norms[0](self.first(x)))
        x = F.relu(x + self.norms[1](self.conv1(x)))
        x = F.relu(self.norms[3](self.shortcut(x)) + self.norms[2](self.conv2(x)))
        return self.last(x).mean((2, 3))

    def forward_pairs(self, x: Tensor) -> Tensor:
        """The same network as the paper has it: two tensors from layer to layer, each at its own resolution."""
        x0 = relu(norm(self.norms[0], octave(self.first, (x, None))))
        x1 = relu(add(x0, norm(self.norms[1], octave(self.conv1, x0))))
        x2 = add(norm(self.norms[3], octave(self.shortcut, x1)), norm(self.norms[2], octave(self.conv2, x1)))
        return octave(self.last, relu(x2))[0].mean((2, 3))


def octave(layer: OctConv2d, x: Pair) -> Pair:
    """The paper's four paths, one by one."""
    high, low = x
    kernels = [rows.split((layer.in_channels - layer.low_in, layer.low_in), 1) for rows in split(layer, layer.weight)]
    biases = (None, None) if layer.bias is None else split(layer, layer.bias)
    padding, strided = layer.padding, layer.stride == (2, 2)
    high = F.avg_pool2d(high, 2) if strided else high
    y_high = F.conv2d(high, kernels[0][0], biases[0], padding=padding)
    y_low = F.conv2d(F.avg_pool2d(high, 2), kernels[1][0], biases[1], padding=padding) if layer.low_out else None
    if layer.low_in:
        to_high = F.conv2d(low, kernels[0][1], padding=padding)
        y_high = y_high + (to_high if strided else F.interpolate(to_high, scale_factor=2))
        if layer.low_out:
            y_low = y_low + F.conv2d(F.avg_pool2d(low, 2) if strided else low, kernels[1][1], padding=padding)
    return y_high, y_low


def split(layer: OctConv2d, tensor: Tensor) -> Pair:
    return tensor.split((layer.out_channels - layer.low_out, layer.low_out))


def norm(bn: nn.BatchNorm2d, x: Pair) -> Pair:
    start, parts = 0, []
    for part in x:
        own = slice(start, start + part.shape[1])
        statistics = (bn.running_mean[own], bn.running_var[own])
        parts.append(F.batch_norm(part, *statistics, bn.weight[own], bn.bias[own], training=bn.training, eps=bn.eps))
        start = own.stop
    return tuple(parts)


def relu(x: Pair) -> Pair:
    return F.relu(x[0]), F.relu(x[1])


def add(x: Pair, y: Pair) -> Pair:
    return x[0] + y[0], x[1] + y[1]


@pytest.mark.parametrize("training", [True, False])
def test_network_and_gradients_are_those_of_two_resolutions(training):
    torch.manual_seed(0)
    net, x = Octaves().double().train(training), torch.randn(2, 3, 16, 16, dtype=torch.float64)
    parameters = list(net.parameters())
    expected = net.forward_pairs(x)
    expected_gradients = torch.autograd.grad(expected.square().sum(), parameters)
    y = net(x)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    for gradient, other in zip(torch.autograd.grad(y.square().sum(), parameters), expected_gradients, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-9, atol=1e-10)


def octave_resnet50() -> nn.Module:
    """Oct-ResNet-50 with α = 1/2: no low frequencies in the stem and in the last stage."""
    net = resnet50()
    for name, conv in list(net.named_modules()):
        first, last = (
            name in ("layer1.0.conv1", "layer1.0.downsample.0"),
            name in ("layer4.0.conv1", "layer4.0.downsample.0"),
        )
        if isinstance(conv, nn.Conv2d) and (last or name.startswith(("layer1", "layer2", "layer3"))):
            geometry = (conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding)
            alphas = {"alpha_in": 0.0 if first else 0.5, "alpha_out": 0.0 if last else 0.5}
            net.set_submodule(name, OctConv2d(*geometry, bias=False, **alphas))
    return net


def test_resnet50_runs_and_has_the_published_counts():
    with torch.device("meta"):
        net = octave_resnet50()
    assert sum(parameter.numel() for parameter in net.parameters()) == 25_557_032  # 25.557 M
    assert complexity(net, (3, 224, 224)).macs == 2_367_143_936  # 2.367 G
    net = net.to_empty(device="cpu").eval()
    for parameter in net.parameters():
        nn.init.ones_(parameter)
    assert net(torch.zeros(1, 3, 65, 47)).shape == (1, 1000)


@pytest.mark.parametrize("alpha", [0.125, 0.25, 0.5, 0.75])
def test_multiply_adds_are_the_papers_share(alpha):
    layer = OctConv2d(64, 64, 3, padding=1, bias=False, alpha_in=alpha, alpha_out=alpha)
    assert layer.weight.shape == (64, 64, 3, 3)
    assert complexity(layer, (64, 16, 16)).macs == 64 * 64 * 9 * 256 * (1 - 0.75 * alpha * (2 - alpha))


@pytest.mark.parametrize(("alpha", "low"), [(0.5, 8), (0.375, 6), (0.3, 4), (0.05, 0)])
def test_low_frequency_channels_are_rounded_down(alpha, low):
    layer = OctConv2d(16, 16, 1, alpha_in=alpha, alpha_out=alpha)
    assert (layer.low_in, layer.low_out) == (low, low)


def test_paths_start_with_their_own_fan_out():
    torch.manual_seed(0)
    layer = OctConv2d(256, 400, 3, padding=1, alpha_out=0.25)
    for block, outputs in zip(split(layer, layer.weight), (300, 100), strict=True):
        assert block.std().item() == pytest.approx((2 / (9 * outputs)) ** 0.5, rel=0.02)
    assert not layer.bias.any()


def test_weights_and_biases_of_the_paths_are_joined():
    state = {}
    for value, path in enumerate(("h2h", "l2h", "h2l", "l2l")):
        state[f"conv_{path}.weight"] = torch.full((1, 1, 1, 1), value)
        state[f"conv_{path}.bias"] = torch.tensor([10 + value])
    joined = OctConv2d.from_authors(state)
    assert joined["weight"].flatten().tolist() == [0, 1, 2, 3]
    assert joined["bias"].tolist() == [10 + 11, 12 + 13]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha_in": 1}, "alpha_in=1: must be at least 0 and below 1; the paper's are 0.125 to 0.75"),
        ({"alpha_out": -0.1}, "alpha_out=-0.1: must be at least 0 and below 1"),
        (
            {"groups": 2},
            "groups=2: OctConv2d is dense or depthwise; 1, or with in_channels = out_channels 8, would fit",
        ),
        ({"groups": 8, "out_channels": 16}, "groups=8: OctConv2d is dense or depthwise"),
        ({"groups": 8, "alpha_in": 0}, "alpha_out=0.5: must equal alpha_in=0 in a depthwise convolution"),
        ({"padding": 0}, r"padding=\(0, 0\): OctConv2d needs .* padding=\(1, 1\) would fit"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        OctConv2d(**{"in_channels": 8, "out_channels": 8, "kernel_size": 3, "padding": 1, **arguments})
