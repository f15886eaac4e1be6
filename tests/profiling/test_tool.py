import io
import json
import re

import pytest
import torch
import yaml
from rich.console import Console, Group
from torch import nn

from efficientconv.compose import fold_layers
from efficientconv.config_path import CONFIGS
from efficientconv.errors import UserError
from efficientconv.profiling import CONVENTIONS, complexity
from efficientconv.profiling.tool import build_network, profile, totals, tree
from efficientconv.tables.count.configurations import composed_network
from efficientconv.tables.load.files import load_table


@pytest.fixture(scope="module")
def networks():
    table = load_table("doconv/sample")
    return {name: composed_network(table, table.row(f"{name} on digits")) for name in ("Baseline", "DO-Conv")}


def config(network, **changes):
    return {**network, "classes": 10, "input_size": [3, 32, 32], "depth": 2, "json": None, **changes}


def test_a_layer_that_folds_is_counted_as_trained_and_as_folded(networks, capsys, tmp_path):
    file = tmp_path / "profile.json"
    found = profile(config(networks["DO-Conv"], json=str(file)), "the sample")
    assert {name: each.params for name, each in found.items()} == {"plain": 4218, "trained": 7053, "folded": 4218}
    stored = json.loads(file.read_text())
    assert list(stored) == ["network", "plain", "trained", "folded"]
    assert stored["network"] == "the sample"
    assert stored["folded"]["params"] == 4218
    assert stored["trained"]["totals"].keys() == CONVENTIONS.keys()
    shown = capsys.readouterr().out
    assert shown.startswith("the sample\nDOConv2d(d_mul=None) for ")
    assert "stem included: 3 replaced, 0 kept\n" in shown
    assert "3×32×32: 7,053 params, 281,088 MACs" in shown
    assert all(name in shown for name in CONVENTIONS)


def test_help_tells_of_every_convention_within_80_characters():
    told = yaml.safe_load((CONFIGS / "profile.yaml").read_text())["hydra"]["help"]["template"]
    assert re.findall(r"^  (\w+) ", told, re.MULTILINE) == list(CONVENTIONS)
    assert max(map(len, told.splitlines())) <= 80


def test_a_layer_that_does_not_fold_is_counted_once(networks):
    assert list(profile(config(networks["Baseline"]), "")) == ["trained"]


def test_what_the_layer_cannot_stand_for_is_said(capsys):
    table = load_table("spconv/cifar10_resnet20")
    network = composed_network(table, table.row("SPConv-ResNet_20-α1/2"))
    network["conv"]["layer"]["alpha"] = 0.3
    profile(config(network, depth=0), "SPConv at 0.3")
    name, counts, first, *_ = capsys.readouterr().out.splitlines()
    assert name == "SPConv at 0.3"
    assert counts == "SPConv2d(alpha=0.3, gwc_groups=2) for dense 3×3, without the stem: 7 replaced, 11 kept"
    assert first.startswith("Kept stages.*.*.conv*.conv (×11), 3×3 32→32: alpha=0.3: int(in_channels·alpha) = 9")


def shown(layout, width):
    console = Console(file=io.StringIO(), width=width)
    console.print(layout, crop=False)
    return console.file.getvalue()


@pytest.mark.parametrize(("depth", "rows"), [(0, 1), (1, 9), (None, 9)])
def test_tree_folds_by_depth(networks, depth, rows):
    found = complexity(build_network(networks["Baseline"], 10), (3, 32, 32))
    title, _, _, _, *lines = shown(tree(found, depth, 100), 100).strip().splitlines()
    assert title == "3×32×32: 4,218 params, 281,088 MACs"
    assert len(lines) == rows
    conv1 = [line.split() for line in lines if "conv1" in line]
    assert conv1 == ([["conv1", "Conv2d", "448", "110,592", "39.3%", "4,096"]] if rows > 1 else [])


@pytest.mark.parametrize("width", [100, 80, 60, 40])
def test_no_figure_is_cut(width):
    found = complexity(nn.Sequential(nn.Conv2d(3, 2048, 7), nn.AdaptiveAvgPool2d(1)), (3, 256, 256))
    text = shown(Group(tree(found, None, width), totals({"trained": found, "folded": found}, width)), width)
    figures = [found.params, found.macs, found.activations, found.peak_activation_bytes, *found.totals.values()]
    assert found.macs == 3 * 2048 * 7 * 7 * 250 * 250
    assert [figure for figure in figures if f"{figure:,}" not in text] == []
    assert "…" not in text


def test_networks_take_no_memory_where_they_can(networks):
    assert all(parameter.is_meta for parameter in build_network(networks["DO-Conv"], 10).parameters())


def test_a_network_that_reads_its_weights_is_built_for_real():
    node = {
        "_target_": "efficientconv.backbones.torchvision_model",
        "_partial_": True,
        "name": "regnet_y_400mf",
    }
    standard = {"layer": None, "where": None, "units": None}
    model = build_network({"model": node, "conv": standard}, 10)
    assert fold_layers(model).eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_folding_leaves_the_network_as_it_is(networks):
    model = build_network(networks["DO-Conv"], 10)
    fold_layers(model)
    assert type(model.conv1).__name__ == "DOConv2d"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_size": [3, 32]}, r"^input_size=\[3, 32\]: must be channels, height and width, as in input_size="),
        ({"input_size": [3, 0, 32]}, r"^input_size=\[3, 0, 32\]: must be channels, height and width"),
        ({"depth": -1}, r"^depth=-1: must be a whole number of at least 0, or null for all levels$"),
        ({"input_size": [1, 32, 32]}, r"does not run on an image of 1×32×32"),
    ],
)
def test_mistakes(networks, changes, message):
    with pytest.raises(UserError, match=message):
        profile(config(networks["Baseline"], **changes), "")
