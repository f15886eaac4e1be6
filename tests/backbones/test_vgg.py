import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from efficientconv.backbones.vgg import VGG16


def test_counts_of_the_papers(build):
    # as SPConv, HetConv and GhostNet count it; 14.72M is the one of the single-layer head
    with torch.device("meta"):
        model = build("vgg16", 10)
        single = build("vgg16", 10, "model.hidden_units=null")
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(2, 3, 32, 32))
    assert sum(parameter.numel() for parameter in model.parameters()) == 14_987_786
    assert sum(parameter.numel() for parameter in single.parameters()) == 14_724_106
    assert round(counter.get_total_flops() / 4e6, 2) == 313.46


def test_thirteen_convolutions_the_first_with_bias():
    convs = [module for module in VGG16(10).modules() if isinstance(module, nn.Conv2d)]
    assert len(convs) == 13
    assert [conv.bias is not None for conv in convs] == [True] + [False] * 12


def test_initialisation():
    model = VGG16(10)
    conv = model.stages[2][1].conv
    assert conv.weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.02)
    assert model.head.hidden.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert all(module.bias.abs().max() == 0 for module in (model.stages[0][0].conv, model.head.classifier))


def test_maps_images_to_logits():
    model = VGG16(5, hidden_units=16)
    logits = model(torch.randn(2, 3, 32, 32))
    assert logits.shape == (2, 5)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("size", [16, 28, 33])
def test_other_sizes_fit_too(size):
    with torch.device("meta"):
        assert VGG16(5)(torch.empty(2, 3, size, size)).shape == (2, 5)


def test_hidden_units_are_checked():
    with pytest.raises(ValueError, match=r"^hidden_units=0: must be a whole number of at least 1$"):
        VGG16(10, hidden_units=0)
