import pytest
import torch
from torch import nn

from efficientconv.bench.contest import COPY, PRODUCT
from efficientconv.bench.machine import Elements, Need, elements, machine_works, needs, of_limit
from efficientconv.bench.rounds import Rounds
from efficientconv.layers import BDRConv2d, DOConv2d
from efficientconv.profiling import complexity


def test_elements_of_the_outermost_layers_by_hand():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), BDRConv2d(4, 4, 3, padding=1), nn.Flatten()
    )
    model.append(nn.Linear(64, 5))
    found = elements(model.eval(), torch.zeros(1, 3, 8, 8))
    assert found == {"0": Elements(3 * 64, 4 * 16), "2": Elements(64, 64), "4": Elements(64, 5)}


def test_a_layer_by_itself():
    assert elements(DOConv2d(2, 6, 3, padding=1), torch.zeros(1, 2, 4, 4)) == {"": Elements(32, 96)}


def test_needs_by_hand():
    conv = nn.Conv2d(2, 6, 3, padding=1, bias=False)  # 108 weights, 16 pixels
    layers = {"": Elements(32, 96), "folded away": Elements(1, 1)}
    profile = complexity(conv, (2, 4, 4))
    assert needs(profile, layers, 10, 4, trains=False) == [Need(4 * (10 * (32 + 96) + 108), 10 * 16 * 108)]
    both = Need(2 * (10 * (3 * 32 + 2 * 96) + 3 * 108), 3 * 10 * 16 * 108)
    assert needs(profile, layers, 10, 2, trains=True) == [both]


def test_the_limit_is_the_longer_of_both_for_each_layer_in_turn():
    rates = {COPY: [100.0, 200.0], PRODUCT: [10.0, 10.0], "conv": [4.0, 4.0]}
    needed = [Need(bytes=100, macs=5), Need(bytes=10, macs=20)]  # 1 s + 2 s, then 0.5 s + 2 s
    assert of_limit(Rounds("conv", rates), "conv", 8, needed) == pytest.approx([3 / 2, 2.5 / 2])  # of 8 images at 4/s


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_copy_moves_as_many_bytes_as_an_average_layer(dtype):
    works = machine_works([Need(1000, 1), Need(3000, 1)], dtype, torch.device("cpu"))
    assert works[COPY].units == 2000
    assert works[COPY].call().nbytes == 1000
    assert works[PRODUCT].units == 1024**3
    assert works[PRODUCT].call().unique().tolist() == [1024]
