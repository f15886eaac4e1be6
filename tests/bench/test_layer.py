import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from efficientconv.bench.contest import COPY, PRODUCT
from efficientconv.bench.forms import Placement
from efficientconv.bench.layer import (
    BOTH,
    FORWARD,
    SHAPES,
    Candidates,
    Pace,
    Place,
    enter,
    measure_place,
    shapes_of,
    single_layers,
)
from efficientconv.errors import UserError
from tests.bench.conftest import told

ONCE = Pace(rounds=3, seconds=0)


@pytest.fixture(scope="module")
def convs():
    config = told("layer", "conv=bsconv_u,doconv,slimconv")
    return {name: instantiate(conv, _convert_="all") for name, conv in config["convs"].items()}


def place(dtype=torch.float32, memory_format=torch.channels_last):
    return Place("here", (4, 5, 5), 2, Placement(torch.device("cpu"), dtype, memory_format), "nn.Conv2d")


@pytest.mark.parametrize(
    ("dtype", "memory_format"),
    [(torch.float32, torch.channels_last), (torch.bfloat16, torch.contiguous_format)],
)
def test_layers_beside_a_plain_convolution_and_the_limit(convs, dtype, memory_format):
    candidates = single_layers(convs, 4)
    forward, both = measure_place(place(dtype, memory_format), candidates, ["eager", "folded"], ONCE)
    assert (forward.task, both.task) == (FORWARD, BOTH)
    assert forward.convs == both.convs == ("standard", "bsconv_u", "doconv")
    assert (forward.forms, both.forms) == (("eager", "folded"), ("eager",))
    assert {COPY, PRODUCT} < forward.rounds.rates.keys()
    for contest in (forward, both):
        assert all(len(parts) == 3 and min(parts) > 0 for parts in contest.of_limit.values())
        assert len(contest.of_limit) == len(contest.rounds.rates) - 2
        assert contest.ratio("standard", "eager") == 1.0
    assert forward.macs["standard eager"] == 25 * 4 * 4 * 9
    assert forward.macs["bsconv_u eager"] == 25 * (16 + 36)
    assert candidates.left_out == ["slimconv with 4 channels: in_channels=4: must be at least 32, the gate's reduction"]


def test_figures_as_plain_values(convs):
    forward, _ = measure_place(place(), single_layers(convs, 4), ["eager"], ONCE)
    figures = forward.to_dict()
    assert (figures["place"], figures["task"], figures["images"]) == ("here", FORWARD, 2)
    found = figures["contenders"]["doconv eager"]
    assert (found["conv"], found["form"], len(found["rounds"]), len(found["ratios"])) == ("doconv", "eager", 3, 3)
    assert figures["machine"].keys() == {"bytes_per_second", "macs_per_second"}
    low, high = found["ratio_quartiles"]
    assert low <= found["ratio"] <= high
    assert found["seconds"] == pytest.approx(2 / found["images_per_second"])
    assert "peak_memory_bytes" not in found


@pytest.mark.gpu
def test_layers_on_a_cuda_device(convs):
    there = Place("there", (4, 5, 5), 2, Placement(torch.device("cuda"), torch.bfloat16, torch.channels_last), "conv")
    for contest in measure_place(there, single_layers(convs, 4), ["eager", "folded"], ONCE):
        assert contest.convs == ("standard", "bsconv_u", "doconv")
        assert all(min(rates) > 0 for rates in contest.rounds.rates.values())


class Refuses(nn.Conv2d):
    def forward(self, x):
        if self.training:
            raise RuntimeError("no gradient\nin this layer")
        return super().forward(x)


def test_what_does_not_run_is_left_out_with_a_line():
    modules = {"standard": nn.Conv2d(4, 4, 3, padding=1), "odd": Refuses(4, 4, 3, padding=1)}
    candidates = Candidates(modules, [])
    forward, both = measure_place(place(), candidates, ["eager"], ONCE)
    assert forward.has("odd", "eager")
    assert not both.has("odd", "eager")
    assert candidates.left_out == ["odd eager, here: no gradient in this layer"]


def test_without_the_reference_nothing_can_be_said():
    def start(conv, form):
        raise RuntimeError("broken")

    with pytest.raises(UserError, match=r"^standard eager, here: broken$"):
        enter(["standard"], ["eager"], start, "here", [])


def test_shapes():
    assert shapes_of(["resnet20"]) == list(SHAPES["resnet20"]) == [(16, 32), (32, 16), (64, 8)]
    assert shapes_of(["96x28", "resnet20", "16x32"]) == [(96, 28), *SHAPES["resnet20"]]
    for word in ("resnet18", "16x0", "16x", 16):
        with pytest.raises(UserError, match=f"^shapes={word}: must be resnet20 or resnet50, for its stages, or <chann"):
            shapes_of([word])
