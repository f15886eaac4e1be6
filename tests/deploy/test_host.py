import pytest
import torch
from torch import nn

from efficientconv.deploy.host import fold_host, product, product_is_cheaper
from efficientconv.layers import BDRConv2d, OctConv2d, SPConv2d
from efficientconv.layers.folded_form import FoldedForm
from tests.deploy.conftest import with_random_norms


def folded(model: nn.Module) -> nn.Module:
    """Fold ``model`` in place, and check that it computes the same."""
    with_random_norms(model).eval()
    image = torch.randn(2, 4, 9, 9, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(image)
        fold_host(model)
        torch.testing.assert_close(model(image), expected, rtol=1e-4, atol=1e-4)
    return model


def kinds(model: nn.Module) -> list[str]:
    return [type(module).__name__ for module in model]


def test_a_norm_goes_into_the_convolution_in_front():
    model = folded(nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.Dropout(0.5), nn.BatchNorm2d(6)))
    assert kinds(model) == ["Conv2d", "Dropout", "Identity"]
    assert model[0].bias is not None


def test_a_norm_goes_into_the_convolution_behind_where_that_does_not_pad():
    model = folded(nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, groups=2, bias=False)))
    assert kinds(model) == ["Identity", "Conv2d"]


@pytest.mark.parametrize("layer", [BDRConv2d, OctConv2d, SPConv2d])
def test_and_into_a_folded_layer(layer):
    model = folded(nn.Sequential(with_random_norms(layer(4, 4, 3, padding=1)).fold(), nn.BatchNorm2d(4)))
    assert isinstance(model[0], FoldedForm)
    assert isinstance(model[1], nn.Identity)


@pytest.mark.parametrize("behind", [nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(4, 6, 3, padding="same"), nn.ReLU()])
def test_else_it_stays(behind):
    assert kinds(folded(nn.Sequential(nn.BatchNorm2d(4), behind)))[0] == "BatchNorm2d"


class Sum(nn.Module):
    def __init__(self, *terms):
        super().__init__()
        self.terms, self.norm = nn.ModuleList(terms), nn.BatchNorm2d(4)

    def forward(self, x):
        first, *others = (term(x) for term in self.terms)
        for other in others:
            first = first + other
        return self.norm(first)


@pytest.mark.parametrize("bias", [True, False])
def test_a_norm_goes_into_all_convolutions_of_a_sum(bias):
    model = folded(Sum(*(nn.Conv2d(4, 4, k, padding=k // 2, bias=bias) for k in (3, 1, 5))))
    assert isinstance(model.norm, nn.Identity)
    assert [conv.bias is not None for conv in model.terms] == [True, bias, bias]


def test_or_into_none():
    conv = nn.Conv2d(4, 4, 1)
    for terms in ((conv, nn.Identity()), (conv, nn.ReLU()), (conv, conv)):
        assert isinstance(folded(Sum(*terms)).norm, nn.BatchNorm2d)


class Fork(nn.Module):
    def __init__(self, *convs):
        super().__init__()
        self.norm, self.convs = nn.BatchNorm2d(4), nn.ModuleList(convs)

    def forward(self, x):
        x = self.norm(x)
        return [conv(x) for conv in self.convs]


def test_a_norm_goes_into_all_convolutions_behind_it_or_none():
    assert isinstance(folded(Fork(nn.Conv2d(4, 2, 1), nn.Conv2d(4, 3, 3))).norm, nn.Identity)
    assert isinstance(folded(Fork(nn.Conv2d(4, 2, 1), nn.Conv2d(4, 3, 3, padding=1))).norm, nn.BatchNorm2d)


class Shared(nn.Module):
    """A convolution that two norms follow, and whose output is needed without a norm."""

    def __init__(self):
        super().__init__()
        self.conv, self.twice = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(3))

    def forward(self, x):
        y = self.conv(x)
        return y + self.norms[0](y) + self.norms[1](self.twice(y)) + self.norms[2](self.twice(x))


def test_what_others_need_stays():
    assert all(isinstance(norm, nn.BatchNorm2d) for norm in folded(Shared()).norms)


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.norm(self.conv(x)) * self.conv.weight.mean()


def test_what_the_forward_pass_reads_itself_stays():
    assert isinstance(folded(Reader()).norm, nn.BatchNorm2d)


class Standardized(nn.Conv2d):
    def forward(self, x):
        return self._conv_forward(x, self.weight / self.weight.std(), self.bias)


def test_a_convolution_that_changes_its_weight_stays():
    assert kinds(folded(nn.Sequential(Standardized(4, 4, 1), nn.BatchNorm2d(4))))[1] == "BatchNorm2d"


def test_a_norm_without_statistics_stays():
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    fold_host(model)
    assert kinds(model)[1] == "BatchNorm2d"


def test_two_1x1_convolutions_become_one_where_that_is_cheaper():
    assert kinds(folded(nn.Sequential(nn.Conv2d(4, 9, 1), nn.Conv2d(9, 4, 1)))) == ["Identity", "Conv2d"]
    assert kinds(folded(nn.Sequential(nn.Conv2d(4, 1, 1), nn.Conv2d(1, 4, 1)))) == ["Conv2d", "Conv2d"]
    assert kinds(folded(nn.Sequential(nn.Conv2d(4, 9, 1), nn.ReLU(), nn.Conv2d(9, 4, 1))))[0] == "Conv2d"


def test_a_stride_behind_makes_the_product_cheaper():
    first, second = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1, stride=2)
    assert product_is_cheaper(first, second)  # 4·4 against 4·(4·2) + 2·4 for each output pixel
    assert not product_is_cheaper(first, nn.Conv2d(2, 4, 1))  # 4·4 against 4·2 + 2·4
    assert kinds(folded(nn.Sequential(first, second))) == ["Identity", "Conv2d"]


def test_a_product_by_hand():
    first, second = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 1, 1, stride=3)
    first.load_state_dict({"weight": torch.tensor([2.0, 3.0]).view(2, 1, 1, 1), "bias": torch.tensor([1.0, -1.0])})
    second.load_state_dict({"weight": torch.tensor([5.0, 7.0]).view(1, 2, 1, 1), "bias": torch.tensor([10.0])})
    both = product(first, second)
    assert (both.weight.item(), both.bias.item(), both.stride) == (31, 8, (3, 3))  # 2·5 + 3·7, 5 − 7 + 10
