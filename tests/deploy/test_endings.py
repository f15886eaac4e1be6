import copy
import operator
import pickle

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from efficientconv.backbones import cifar_resnet
from efficientconv.compose import Where, replace_convs
from efficientconv.deploy import fold
from efficientconv.deploy.endings import give_endings
from efficientconv.layers import OctConv2d, SPConv2d
from efficientconv.layers.folded_form import FoldedForm
from tests.deploy.conftest import conv_config, with_random_norms
from tests.deploy.test_fold import assert_same


def forms(model: nn.Module) -> list[FoldedForm]:
    return [module for module in model.modules() if isinstance(module, FoldedForm)]


def activating(model: nn.Module) -> list[bool]:
    return [form.activates for form in forms(model)]


def layer() -> nn.Module:
    return SPConv2d(16, 16, 3, padding=1).eval().fold()


def images(*size: int) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(2))


def with_endings(model: nn.Module) -> nn.Module:
    """Return a copy with endings, which computes the same."""
    ended = copy.deepcopy(model).eval()
    give_endings(ended)
    with torch.no_grad():
        torch.testing.assert_close(ended(images(2, 16, 8, 8)), model.eval()(images(2, 16, 8, 8)))
    return ended


class Unit(nn.Module):
    """A unit whose way from x and its layer's output is given."""

    def __init__(self, way):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.relu, self.way = layer(), nn.ReLU(inplace=True), way

    def forward(self, x):
        return self.way(self, x)


RELUS = {
    "module": lambda unit, y: unit.relu(y),
    "function": lambda unit, y: F.relu(y, inplace=True),
    "method": lambda unit, y: y.relu(),
}


@pytest.mark.parametrize("name", ["octconv", "bdrconv", "ghost", "spconv", "scconv"])
def test_units_of_a_cifar_network(name):
    config = conv_config(name)
    plain = cifar_resnet(10, depth=8)
    model = with_random_norms(replace_convs(plain, config["layer"], config["where"], units=config["units"])[0])
    folded = fold(model)
    found = {name: module for name, module in folded.named_modules() if isinstance(module, FoldedForm)}
    assert len(found) >= 5
    assert all(form.activates or ".shortcut." in name or ".fusion" in name for name, form in found.items())
    assert_same(model, folded)
    assert_same(model, pickle.loads(pickle.dumps(copy.deepcopy(folded))))
    exported = torch.export.export(
        folded, (images(2, 3, 32, 32),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    ).module()
    assert_same(model, exported)


def test_one_relu_called_twice():
    model = torchvision.models.resnet18(num_classes=10)
    model = with_random_norms(replace_convs(model, OctConv2d, Where(include=["layer*.conv2"]))[0])
    folded = fold(model)
    assert activating(folded) == [True] * 8
    assert_same(model, folded, 64)


@pytest.mark.parametrize("relu", RELUS.values(), ids=RELUS)
def test_sum_and_relu_in_a_unit(relu):
    unit = with_endings(nn.Sequential(Unit(lambda unit, x: relu(unit, unit.layer(x) + x))))[0]
    assert activating(unit) == [True]
    assert len(unit.graph.nodes) == 3  # input, layer, output
    assert dict(unit.named_parameters()).keys() == dict(Unit(None).named_parameters()).keys()


@pytest.mark.parametrize(
    ("way", "activates"),
    [
        (lambda unit, x: x + unit.layer(x), False),
        (lambda unit, x: torch.add(unit.layer(x), x), False),
        (lambda unit, x: (unit.layer(x) + x) * 2, False),
        (lambda unit, x: unit.relu(unit.layer(x)) + x, False),
        (lambda unit, x: (unit.layer(F.relu(x)) + x).relu(), True),
    ],
)
def test_other_units(way, activates):
    unit = with_endings(nn.Sequential(Unit(way)))[0]
    assert activating(unit) == [activates or unit.layer.activates]


LEFT = {
    "its output has another taker": lambda unit, x: (y := unit.layer(x)) + x + y.mean(),
    "x changes before the sum": lambda unit, x: unit.layer(x := x * 1) + x.relu_(),
    "a number": lambda unit, x: unit.layer(x) + 1,
    "twice itself": lambda unit, x: (y := unit.layer(x)) + y,
    "scaled": lambda unit, x: torch.add(unit.layer(x), x, alpha=2),
    "called twice": lambda unit, x: unit.layer(unit.layer(x)) + x,
    "leaky": lambda unit, x: F.leaky_relu(unit.layer(x)),
}


@pytest.mark.parametrize("way", LEFT.values(), ids=LEFT)
def test_what_is_no_ending_stays(way):
    unit = with_endings(nn.Sequential(Unit(way)))[0]
    assert type(unit) is Unit
    assert activating(unit) == [False]


def test_a_unit_with_hooks_stays():
    model = nn.Sequential(Unit(lambda unit, x: unit.layer(x) + x))
    seen = []
    model[0].register_forward_hook(lambda *arguments: seen.append(arguments))
    assert type(with_endings(model)[0]) is Unit
    assert len(seen) == 3


def test_the_network_itself_keeps_its_class():
    assert type(with_endings(Unit(lambda unit, x: unit.relu(unit.layer(x) + x)))) is Unit


def test_a_relu_in_a_sequence():
    chain = with_endings(nn.Sequential(layer(), nn.Identity(), nn.ReLU(), layer(), nn.ReLU6()))
    assert activating(chain) == [True, False]
    assert [type(module) for module in chain[1:3]] == [nn.Identity] * 2


def test_a_relu_with_a_hook_stays():
    chain, seen = nn.Sequential(layer(), nn.ReLU()), []
    chain[1].register_forward_hook(lambda *arguments: seen.append(arguments))
    assert activating(with_endings(chain)) == [False]
    assert len(seen) == 2


def test_where_a_network_cannot_be_traced_a_layer_may_be_called_unseen():
    unit = nn.Sequential(layer(), nn.ReLU())
    model = Unit(lambda network, x: network.unit(x) + (network.unit[0](x) if len(x) == 1 else 0))
    model.unit = unit
    ended = with_endings(model)
    assert not any(activating(ended))
    with torch.no_grad():
        assert ended(images(1, 16, 8, 8)).equal(model(images(1, 16, 8, 8)))


def whole(way) -> nn.Module:
    """Return a network around a unit whose layer is not folded yet."""
    unit = Unit(way)
    unit.layer, unit.drop, unit.nothing = SPConv2d(16, 16, 3, padding=1), nn.Dropout(), nn.Identity()
    return with_random_norms(nn.Sequential(nn.Conv2d(3, 16, 1), unit))


class Reader(nn.Module):
    """A network that asks its unit for something besides its output."""

    def __init__(self, ask):
        super().__init__()
        self.stem, self.unit = whole(lambda unit, x: unit.relu(unit.layer(x) + x))
        self.unit.factor, self.ask = 2, ask

    def forward(self, x):
        return self.unit(self.stem(x)) * self.ask(self.unit)


UNUSUAL = {
    "in the shortcut's place": lambda unit, x: (keep := x, x := operator.iadd(x, unit.layer(x)))[1] * keep,
    "under another name": lambda unit, x: (out := unit.layer(x.relu()), h := x, operator.iadd(h, out))[1] * x,
    "behind what changes its input": lambda unit, x: unit.layer(unit.drop(x)) + F.relu(x, inplace=True),
    "ReLU by keyword": lambda unit, x: unit.relu(input=unit.layer(x) + x),
    "a number of the image": lambda unit, x: unit.layer(x) + x.size(1),
    "nothing of a number": lambda unit, x: unit.layer(x) + x * unit.nothing(2.0),
}


@pytest.mark.parametrize("way", UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_units_fold(way):
    model = whole(way)
    assert_same(model, fold(model))


@pytest.mark.parametrize("ask", [lambda unit: unit.factor, lambda unit: 1 + isinstance(unit, Unit)])
def test_a_network_that_asks_its_unit_for_more_is_folded_without(ask):
    model = Reader(ask)
    folded = fold(model)
    assert_same(model, folded)
    assert not any(activating(folded))
