from functools import partial

import pytest
import torch
from torch import nn

from efficientconv.compose import Where, replace_convs
from efficientconv.layers import BSConvU, GhostConv2d, SlimConv2d, SPConv2d
from efficientconv.training.warm_start import reconstruction
from efficientconv.training.warm_start.reconstruction import fit_layers


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch):
    monkeypatch.setattr(reconstruction, "STEPS", 40)
    monkeypatch.setattr(reconstruction, "BATCH", 16)


def images(batches=2):
    torch.manual_seed(1)
    return [torch.randn(16, 3, 8, 8) for _ in range(batches)]


def net(width=8):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, width, 1), nn.ReLU()]
    for _ in range(2):
        layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    model = nn.Sequential(*layers)
    with torch.no_grad():
        model(torch.cat(images()))  # running statistics
    return model


@torch.no_grad()
def outputs(model, name, batches):
    """Return what a layer gives in eval mode, its norms behind aside."""
    seen = []
    with model.get_submodule(name).register_forward_hook(lambda _, inputs, y: seen.append(y)):
        model.eval()(torch.cat(batches))
    model.train()
    return seen[0]


@pytest.mark.parametrize("layer", [BSConvU, SPConv2d, GhostConv2d])
def test_fitted_layers_come_nearer_than_their_kernels(layer):
    original, batches = net(), images()
    model, report = replace_convs(original, layer, Where(), begin_near=True)
    names = [row.name for row in report.replaced]
    wanted = outputs(original, "2", batches)
    before = float((outputs(model, "2", batches) - wanted).norm() / wanted.norm())
    errors = fit_layers(model, original, names, batches)
    after = float((outputs(model, "2", batches) - wanted).norm() / wanted.norm())
    assert errors.keys() == {"2", "5"}
    assert errors["2"] == pytest.approx(after, rel=1e-3)
    assert after < before
    assert model.training
    assert original.training


def test_what_lies_between_the_layers_stays():
    original, batches = net(), images()
    model, report = replace_convs(original, BSConvU, Where(), begin_near=True)
    fit_layers(model, original, [row.name for row in report.replaced], batches)
    before, after = original.state_dict(), model.state_dict()
    shared = [key for key in before if key in after and "batches_tracked" not in key]
    assert len(shared) == 10
    assert all(torch.equal(before[key], after[key]) for key in shared)
    assert model[3].momentum == 0.1


def test_fitting_that_comes_out_worse_is_undone(monkeypatch):
    original, batches = net(), images()
    model, _ = replace_convs(original, BSConvU, Where(), begin_near=True)
    before = {key: value.clone() for key, value in model[2].state_dict().items()}
    monkeypatch.setattr(reconstruction, "RATE", 1e3)
    fit_layers(model, original, ["2"], batches)
    assert all(torch.equal(value, before[key]) for key, value in model[2].state_dict().items())


def test_layers_without_an_approximation_are_fitted(monkeypatch):
    original, errors = net(width=32), []
    for steps in (0, 40):
        monkeypatch.setattr(reconstruction, "STEPS", steps)
        torch.manual_seed(0)
        model, _ = replace_convs(original, partial(SlimConv2d, restore_width=True), Where(), begin_near=True)
        errors.append(fit_layers(model, original, ["2", "5"], images()))
    assert errors[1].keys() == {"2", "5"}
    assert errors[1]["2"] < errors[0]["2"]


def test_a_narrower_layer_has_nothing_to_be_fitted_to():
    original = nn.Sequential(net(width=32)[:4], nn.Conv2d(32, 8, 1))
    model = nn.Sequential(nn.Sequential(*original[0][:2], SlimConv2d(32, 32, 3, padding=1)), nn.Conv2d(24, 8, 1))
    assert fit_layers(model, original, ["0.2"], images()) == {}


def test_frozen_layers_are_left_alone():
    original = net().requires_grad_(False)
    model, report = replace_convs(original, BSConvU, Where(), begin_near=True)
    assert fit_layers(model, original, [row.name for row in report.replaced], images()) == {}
