import sys

import pytest
import torch

from efficientconv.bench import model as bench_model
from efficientconv.bench.contest import name_of
from efficientconv.bench.forms import Placement
from efficientconv.bench.layer import Pace
from efficientconv.bench.model import INFERENCE, TRAINING, Network, Questions, formats_of, measure_models
from efficientconv.bench.side_by_side import build_networks, instantiated
from efficientconv.layers import BSConvS, OrthonormalConv2d
from efficientconv.profiling import complexity
from tests.bench.conftest import told

SIZE = (3, 8, 8)


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    config = told("model", "conv=bsconv_s,acnet", "conv.regularization_weight=0.1", "convs.bsconv_s.layer.p=0.5")
    convs = instantiated(config["convs"])
    modules = build_networks(config, convs).modules
    return {name: Network(modules[name], stored(name), convs[name]["regularization_weight"]) for name in modules}


def stored(name):
    memory_format = torch.channels_last if name == "acnet" else torch.contiguous_format
    return Placement(torch.device("cpu"), torch.float32, memory_format)


def questions(**changes):
    usual = {"forms": ("eager", "folded"), "batches": (1, 3), "training": 2}
    return Questions("net", SIZE, 10, **usual | changes, pace=Pace(3, 0))


@pytest.fixture(scope="module")
def contests(networks):
    return list(measure_models(networks, questions(), []))


def test_every_size_of_batch_and_training(contests):
    assert [(each.task, each.images, each.forms) for each in contests] == [
        (INFERENCE, 1, ("eager", "folded")),
        (INFERENCE, 3, ("eager", "folded")),
        (TRAINING, 2, ("eager",)),
    ]
    assert [each.place for each in contests] == [f"net, {n} at once" for n in ("1 image", "3 images", "2 images")]
    for contest in contests:
        assert contest.convs == ("standard", "bsconv_s", "acnet")
        assert all(len(rates) == 3 and min(rates) > 0 for rates in contest.rounds.rates.values())


def test_each_form_stands_beside_the_reference_in_the_same_form(contests):
    contest = contests[0]
    assert contest.ratio("standard", "folded") == 1.0
    rates = contest.rounds.rates
    pairs = zip(rates["acnet folded"], rates["standard folded"], strict=True)
    assert contest.ratios("acnet", "folded") == [a / b for a, b in pairs]


def test_multiply_adds_are_those_of_the_form(contests, networks):
    macs = contests[0].macs
    plain = complexity(networks["standard"].module, SIZE).macs
    assert macs["standard eager"] == macs["standard folded"] == macs["acnet folded"] == plain
    assert macs["acnet eager"] > plain > macs["bsconv_s eager"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process forget its peak")
def test_the_peak_is_measured_in_training_and_with_the_most_images(contests):
    assert contests[0].peaks == {}
    for contest in contests[1:]:
        assert contest.peaks.keys() == {name_of(conv, form) for conv in contest.convs for form in contest.forms}
        assert all(peak >= 0 for peak in contest.peaks.values())


def test_a_call_adds_what_it_holds_at_once():
    added = bench_model.added_at_peak(lambda: torch.ones(64 * 2**20, dtype=torch.uint8), torch.device("cpu"))
    if added is not None:
        assert 60 * 2**20 < added < 80 * 2**20


def test_a_training_step_computes_penalties_and_gradients_and_keeps_the_weights(networks, monkeypatch):
    seen = []
    monkeypatch.setattr(bench_model, "regularization_loss", lambda model: seen.append(model) or torch.zeros(()))
    entrant = bench_model._training(networks, questions(), 2, "bsconv_s", "eager")
    before = [each.clone() for each in entrant.network.parameters()]
    entrant.work.call()
    assert len(seen) == 2
    assert all(parameter.grad is not None for parameter in entrant.network.parameters())
    assert all(map(torch.equal, before, entrant.network.parameters()))
    bench_model._training(networks, questions(), 2, "standard", "eager").work.call()
    assert len(seen) == 2
    assert any(isinstance(module, BSConvS | OrthonormalConv2d) for module in seen[0].modules())


def test_without_training(networks):
    few = {name: networks[name] for name in ("standard", "acnet")}
    found = list(measure_models(few, questions(batches=(2,), training=None, forms=("folded",)), []))
    assert [(each.task, each.forms) for each in found] == [(INFERENCE, ("folded",))]


def test_memory_formats_in_words(networks):
    assert formats_of(list(networks.values())) == "NCHW or NHWC"
    assert formats_of([networks["acnet"]]) == "NHWC"
