import copy
import pickle

import pytest
import torch
from torch import nn

from efficientconv.layers import BDRConv2d, GhostConv2d, OctConv2d, PConv2d, SCConv2d, SPConv2d
from efficientconv.layers.ending import Ending
from efficientconv.native import library
from tests.deploy.conftest import with_random_norms

LAYERS = (BDRConv2d, GhostConv2d, OctConv2d, PConv2d, SCConv2d, SPConv2d)
SHORTCUTS = {
    "none": lambda y: None,
    "alike": torch.randn_like,
    "channels first": lambda y: torch.randn(y.shape),
    "a value a channel": lambda y: torch.randn(1, y.shape[1], 1, 1),
    "double": lambda y: torch.randn_like(y).double(),
}
NATIVE = ("none", "alike", "channels first")


def form(layer: type[nn.Module], activates: bool) -> nn.Module:
    torch.manual_seed(0)
    made = with_random_norms(layer(16, 16, 3, padding=1)).eval().fold()
    made.activates = activates
    return made


def image() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 16, 8, 8, generator=generator).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("activates", [False, True])
@pytest.mark.parametrize("kind", SHORTCUTS)
@pytest.mark.parametrize("layer", LAYERS)
@torch.no_grad()
def test_shortcut_and_relu_as_operators(layer, kind, activates, monkeypatch):
    x = image()
    plain = form(layer, False)(x)
    shortcut = SHORTCUTS[kind](plain)
    expected = plain if shortcut is None else plain + shortcut
    if kind in NATIVE and library("bdrconv"):
        monkeypatch.delattr(Ending, "of")  # the pass that writes the output does it
    torch.testing.assert_close(form(layer, activates)(x, shortcut), expected.relu() if activates else expected)


@pytest.mark.parametrize("layer", LAYERS)
def test_operators_give_the_shortcut_its_gradient(layer):
    x, ending = image(), form(layer, True)
    shortcut = torch.randn_like(ending(x)).requires_grad_()
    y = ending(x, shortcut)
    y.sum().backward()
    assert shortcut.grad.equal((y > 0).float())


@torch.no_grad()
def test_another_sizes_shortcut_is_broadcast():
    y = torch.randn(2, 4, 1, 1)
    shortcut = torch.randn(2, 4, 3, 3)
    assert Ending(shortcut).of(y.clone()).equal(y + shortcut)
    assert not Ending(shortcut).is_native(y)


@pytest.mark.parametrize("layer", LAYERS)
@torch.no_grad()
def test_copied_kept_and_exported(layer):
    x, ending = image(), form(layer, True)
    shortcut = torch.randn_like(ending(x))
    expected = ending(x, shortcut)
    exported = torch.export.export(ending, (x, shortcut)).module()
    for other in (copy.deepcopy(ending), pickle.loads(pickle.dumps(ending)), ending.rescaled(torch.ones(16), None)):
        assert other(x, shortcut).equal(expected)
    for other in (exported, torch.compile(ending, backend="eager", fullgraph=True)):
        torch.testing.assert_close(other(x, shortcut), expected)


@torch.no_grad()
def test_what_is_no_number_stays_none():
    x, ending = image(), form(GhostConv2d, True)
    shortcut = torch.full_like(ending(x), float("nan"))
    assert ending(x, shortcut).isnan().all()
