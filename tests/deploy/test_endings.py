import copy
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


def test_a_network_that_cannot_be_traced_part_by_part():
    def way(unit, x):
        return x if x.mean() > 100 else x + 1

    model = nn.Sequential(Unit(way), Unit(lambda unit, x: unit.relu(unit.layer(x) + x)))
    assert activating(with_endings(model)) == [False, True]
