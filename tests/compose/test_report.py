import io
import json
from functools import partial

import torch
from rich.console import Console
from torch import nn

from efficientconv.backbones.cifar import cifar_resnet
from efficientconv.compose import Where, replace_convs
from efficientconv.compose.report import counted
from efficientconv.layers import BSConvS, BSConvU, DOConv2d, OrthonormalConv2d, SlimConv2d

RULE = Where(kernel_sizes=(3,), stem=True)


def rendered(report, width=100):
    console = Console(width=width, file=io.StringIO())
    console.print(report)
    return console.file.getvalue()


def test_a_deep_net_takes_as_few_lines_as_a_shallow_one():
    with torch.device("meta"):
        model = cifar_resnet(10, depth=110)
    _, report = replace_convs(model, BSConvU, RULE, input_size=(3, 32, 32))
    text = rendered(report)
    assert len(report.replaced) == 109
    assert len(text.splitlines()) < 16
    words = " ".join(text.split())
    assert "stages.0.*.conv*.conv 36 3×3 16→16 BSConvU" in words
    assert "stages.1.0.conv1.conv 1 3×3 16→32 /2 BSConvU" in words


def test_totals_and_what_is_not_selected():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1))
    _, report = replace_convs(model, BSConvU, input_size=(3, 10, 10))
    text = rendered(report)
    assert text.startswith("Sequential: BSConvU for dense, any kernel but 1×1, without the stem")
    # by hand: 9·3·8+8 + 9·8·8+8 + 8·8+8 = 880 parameters, of which 584 become 8·8 + 9·8 + 8 = 144
    assert "In all: 880 → 440 parameters (-50.0%), 85.6 k → 41.6 k MACs (-51.4%)" in text
    assert "584 → 144" in text
    assert "57.6 k → 13.6 k" in text
    assert "Not selected: 1 dense 3×3 (stem), 1 dense 1×1." in text


def test_without_a_size_there_are_no_macs():
    _, report = replace_convs(nn.Sequential(nn.Conv2d(3, 8, 3)), BSConvU, RULE)
    assert "In all: 224 → 104 parameters (-53.6%)\n" in rendered(report)


def test_penalties_without_a_change_are_told_in_words():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(), nn.Conv2d(8, 4, 1))
    _, report = replace_convs(model, BSConvS, RULE, units={"projection": OrthonormalConv2d}, input_size=(3, 8, 8))
    text = " ".join(rendered(report).split())
    assert "Sequential: OrthonormalConv2d for each projection" in text
    assert "The architecture stays as it was, and so do parameters, MACs and outputs" in text
    assert "The difference is in the training loss alone." in text
    assert "1 layers add a penalty to the training loss, weighted by conv.regularization_weight: 3." in text


def test_penalties_with_a_change_do_not_claim_that_nothing_changed():
    _, report = replace_convs(nn.Sequential(nn.Conv2d(3, 8, 3)), BSConvS, RULE)
    text = rendered(report)
    assert "add a penalty" in text
    assert "stays as it was" not in text


def bottlenecks(n):
    def bottleneck():
        return nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 1))

    return nn.Sequential(*(bottleneck() for _ in range(n)), nn.Conv2d(32, 32, 3), nn.Conv2d(32, 64, 3))


def test_notes_and_what_is_kept_are_told_once():
    _, report = replace_convs(bottlenecks(3), SlimConv2d, Where(stem=True))
    text = " ".join(rendered(report, width=200).split())
    assert "*.0 3 3×3 32→32 SlimConv2d →24" in text
    assert "The norm behind it is dropped; the 1×1 behind it is narrower: *.0 (3 of 3)." in text
    assert "Kept 3, 3×3 32→32: SlimConv2d outputs 24 of 32 channels, and its output goes into 4 (Conv2d)" in text
    assert "Kept 4, 3×3 32→64: out_channels=64: must equal in_channels=32" in text


def test_a_model_that_cannot_be_traced_is_told():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)

        def forward(self, x):
            return self.conv(x) if x.sum() > 0 else x

    _, report = replace_convs(Branches(), BSConvU, RULE)
    assert "The model cannot be traced (symbolically traced" in rendered(report, width=200)


def test_many_kept_are_cut():
    def only_the_first(in_channels, out_channels, kernel_size, **others):
        if in_channels != 3:
            raise ValueError("x" * in_channels)
        return BSConvU(in_channels, out_channels, kernel_size, **others)

    model = nn.Sequential(*(nn.Conv2d(i, i + 1, 3) for i in range(3, 20)))
    _, report = replace_convs(model, partial(only_the_first), RULE)
    text = rendered(report, width=200)
    assert text.count("Kept ") == 12
    assert "… and 4 more that are kept." in text


def test_nothing_replaced():
    _, report = replace_convs(nn.Sequential(nn.Conv2d(3, 8, 3)), None, input_size=(3, 4, 4))
    assert rendered(report).splitlines() == [
        "Sequential: the convolutions it comes with",
        "In all: 224 parameters, 864 MACs",
    ]


def test_to_dict_is_plain():
    _, report = replace_convs(bottlenecks(2), SlimConv2d, Where(stem=True), input_size=(32, 8, 8))
    plain = report.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["replaced"][0]["name"] == "0.0"
    assert plain["replaced"][0]["dropped"] == ["0.1"]
    assert plain["kept"][0]["name"] == "2"
    assert plain["macs_after"] == report.macs_after


def test_counted():
    assert counted({"b": 1, "a": 12}) == "12 a, 1 b"


def test_the_errors_of_layers_that_begin_near_have_a_column():
    torch.manual_seed(0)
    model = cifar_resnet(10, depth=8)
    _, report = replace_convs(model, BSConvU, RULE, begin_near=True)
    text = " ".join(rendered(report).split())
    assert "params MACs error" in text
    first, second = (row.error for row in report.replaced if "stages.0.0" in row.name)
    assert f"{min(first, second):.2g}" in text
    assert "Error: of the new kernel, relative to the one that it replaces; 0 computes the same." in text
    _, exact = replace_convs(model, DOConv2d, RULE, begin_near=True)
    assert {line.split()[-1] for line in rendered(exact).splitlines() if " DOConv2d  " in line} == {"0"}
    assert "error" not in rendered(replace_convs(model, BSConvU, RULE)[1])


def test_layers_without_an_approximation_are_said_to_begin_anew():
    _, report = replace_convs(bottlenecks(3), SlimConv2d, Where(stem=True), begin_near=True)
    text = " ".join(rendered(report, width=200).split())
    assert "anew" in text
    assert "SlimConv2d has no approximation of what it replaces here and begins anew: *.0 (3 of 3)." in text
    assert "Error:" not in text
