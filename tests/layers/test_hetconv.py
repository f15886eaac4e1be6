import pytest
import torch
from torch import nn

from efficientconv.layers import HetConv2d


def fill(parameter: torch.Tensor, *values: float) -> None:
    with torch.no_grad():
        parameter.copy_(torch.tensor(values).view(parameter.shape))


def has_large_kernel(in_channels: int, out_channels: int, p: int) -> torch.Tensor:
    """Tell for each filter j and channel c whether (c − j) mod P = 0, one by one: (o, i)."""
    return torch.tensor([[(c - j) % p == 0 for c in range(in_channels)] for j in range(out_channels)])


def test_by_hand():
    layer = HetConv2d(2, 3, 3, padding=1, p=2)
    fill(layer.weight_kxk, *[1] * 9, *[2] * 9, *[3] * 9)
    fill(layer.weight_1x1, 10, 20, 30)
    fill(layer.bias, 0, 0, 500)
    x = torch.cat((torch.full((1, 1, 3, 3), 1.0), torch.full((1, 1, 3, 3), 7.0)), 1)
    # in the centre: filters 0 and 2 add nine pixels of the first channel and one of the second, filter 1 the reverse
    assert layer(x)[0, :, 1, 1].tolist() == [9 + 70, 2 * 63 + 20, 3 * 9 + 30 * 7 + 500]


@pytest.mark.parametrize("p", [2, 4, 8])
def test_large_kernels_are_shifted_from_filter_to_filter(p):
    kernel = HetConv2d(8, 12, 3, p=p).fold().weight
    border = kernel.detach().clone()
    border[:, :, 1, 1] = 0
    assert torch.equal(border.abs().sum((2, 3)) > 0, has_large_kernel(8, 12, p))
    assert kernel[:, :, 1, 1].abs().min() > 0


def test_kernels_are_stored_in_the_order_of_their_channels():
    layer = HetConv2d(6, 5, 1, p=3)
    large = has_large_kernel(6, 5, 3)
    expected = torch.arange(30.0).view(5, 6)
    fill(layer.weight_kxk, *expected[large].tolist())
    fill(layer.weight_1x1, *expected[~large].tolist())
    assert torch.equal(layer.fold().weight.flatten(1), expected)


@pytest.mark.parametrize("kernel_size", [3, 5, (3, 5)])
def test_no_other_weights_appear_in_training(kernel_size):
    torch.manual_seed(0)
    layer = HetConv2d(4, 6, kernel_size, p=2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9, weight_decay=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        layer(torch.randn(2, 4, 7, 7)).square().mean().backward()
        optimizer.step()
    kernel = layer.fold().weight[~has_large_kernel(4, 6, 2)]
    assert (kernel != 0).sum() == 12  # the centres alone


@pytest.mark.parametrize(("kernel_size", "area"), [(3, 9), (5, 25), ((3, 5), 15)])
@pytest.mark.parametrize("p", [2, 8, 64])
def test_parameters_and_multiply_adds_are_the_papers(kernel_size, area, p):
    layer = HetConv2d(64, 128, kernel_size, bias=False, p=p)
    count = sum(parameter.numel() for parameter in layer.parameters())
    assert count == 64 * 128 * (area / p + 1 - 1 / p)
    assert layer.effective_macs_ratio * 64 * 128 * area == pytest.approx(count, rel=1e-12)
    assert layer.effective_macs_ratio == pytest.approx((layer.fold().weight != 0).float().mean().item())


def test_folds_to_one_convolution():
    assert type(HetConv2d(4, 4, 3).fold()) is nn.Conv2d


def test_approximation_by_hand():
    layer = HetConv2d(2, 2, 3, padding=1, p=2, approximate=True)
    fill(layer.weight_kxk, *[1] * 9, *[2] * 9)
    fill(layer.weight_1x1, 10, 20, 30, 40)
    fill(layer.bias, 0, 500)
    x = torch.cat((torch.full((1, 1, 3, 3), 1.0), torch.full((1, 1, 3, 3), 7.0)), 1)
    assert layer(x)[0, :, 1, 1].tolist() == [9 + 10 + 140, 2 * 63 + 30 + 280 + 500]
    assert layer.effective_macs_ratio == 1
    assert sum(weight.numel() for weight in (layer.weight_kxk, layer.weight_1x1)) == 2 * 2 * (9 / 2 + 1)


def test_approximation_is_the_same_function_but_for_the_order_of_channels():
    torch.manual_seed(0)
    p, exact = 2, HetConv2d(6, 4, 3, padding=1, p=2, dtype=torch.float64)
    inputs, outputs = (torch.arange(n).view(-1, p).T.flatten() for n in (6, 4))  # 0 2 4 1 3 5 and 0 2 1 3
    groups = HetConv2d(6, 4, 3, padding=1, p=2, approximate=True, dtype=torch.float64)
    centres = exact.fold().weight[:, :, 1:2, 1:2].detach() * ~has_large_kernel(6, 4, 2).view(4, 6, 1, 1)
    groups.load_state_dict(
        {
            "weight_kxk": exact.weight_kxk[outputs],
            "weight_1x1": centres[outputs][:, inputs],
            "bias": exact.bias[outputs],
        }
    )
    x = torch.randn(2, 6, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(groups(x[:, inputs]), exact(x)[:, outputs])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"p": 3}, "p=3: must divide in_channels=8; 2 or 4 or 8 would fit"),
        ({"in_channels": 1, "p": 2}, "p=2: must divide in_channels=1; no p would fit"),
        ({"p": 8, "approximate": True}, "p=8: must divide in_channels=8 and out_channels=12; 2 or 4 would fit"),
        ({"p": 1}, "p=1: must be a whole number of at least 2"),
        ({"kernel_size": 2}, r"kernel_size=\(2, 2\): HetConv2d needs odd kernels.* \(3, 3\) would fit"),
        ({"groups": 2}, "groups=2: HetConv2d is defined for groups=1 only"),
        ({"padding": 0, "approximate": True}, r"padding=\(0, 0\): HetConv2d needs .* padding=\(1, 1\) would fit"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        HetConv2d(**{"in_channels": 8, "out_channels": 12, "kernel_size": 3, "padding": 1, **arguments})
