import copy
import io
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch import fx, nn

from efficientconv.compose import Where, create_model, replace_convs
from efficientconv.errors import UserError
from efficientconv.layers import (
    BSConvS,
    BSConvU,
    DepthwiseSeparableConv2d,
    DOConv2d,
    OrthonormalConv2d,
    SlimConv2d,
    SPConv2d,
)
from efficientconv.profiling import complexity


class Net(nn.Module):
    """A stem, a 3×3, a bottleneck of 32 channels and a linear layer."""

    def __init__(self, num_classes=10):
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.conv1 = nn.Conv2d(32, 32, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 32, 3, stride=2, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(32)
        self.conv3 = nn.Conv2d(32, 64, 1)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.relu(self.norm1(self.conv1(x)))
        x = self.conv3(self.relu(self.norm2(self.conv2(x))))
        return self.fc(x.mean((2, 3)))


def test_the_model_that_was_given_stays_as_it_was():
    model = Net()
    state = copy.deepcopy(model.state_dict())
    new, _ = replace_convs(model, BSConvU)
    assert type(model.conv1) is nn.Conv2d
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(model.state_dict()[key], value) for key, value in state.items())
    assert not {id(p) for p in model.parameters()} & {id(p) for p in new.parameters()}


def test_the_class_stays_and_everything_else_in_the_model():
    model = Net()
    new, report = replace_convs(model, BSConvU)
    assert type(new) is Net
    assert not isinstance(new, fx.GraphModule)
    assert [row.name for row in report.replaced] == ["conv1", "conv2"]
    assert isinstance(new.conv1, BSConvU)
    assert type(new.stem) is nn.Conv2d
    assert torch.equal(new.fc.weight, model.fc.weight)
    assert new(torch.randn(2, 3, 9, 9)).shape == (2, 10)


def test_mode_and_frozenness_stay():
    model = Net()
    model.conv1.eval().requires_grad_(False)
    new, _ = replace_convs(model, BSConvU)
    assert not new.conv1.training
    assert not any(p.requires_grad for p in new.conv1.parameters())
    assert new.conv2.training
    assert all(p.requires_grad for p in new.conv2.parameters())


def test_a_shared_convolution_is_replaced_once_and_stays_shared():
    conv = nn.Conv2d(8, 8, 3, padding=1)
    new, report = replace_convs(nn.Sequential(conv, nn.ReLU(), conv), BSConvU, Where(stem=True))
    assert isinstance(new[0], BSConvU)
    assert new[0] is new[2]
    assert len(report.replaced) == 1


@pytest.mark.parametrize("is_default", [False, True])
def test_the_callers_default_device_changes_nothing(is_default):
    torch.manual_seed(0)
    expected, report = replace_convs(Net(), BSConvU)
    try:
        torch.set_default_device("meta" if is_default else None)
        with torch.device("cpu"):
            torch.manual_seed(0)
            model = Net()
        with nullcontext() if is_default else torch.device("meta"):
            new, same_report = replace_convs(model, BSConvU)
    finally:
        torch.set_default_device(None)
    assert same_report == report
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(new.parameters(), expected.parameters(), strict=True))


def test_a_second_replacement_does_not_reach_into_the_first():
    first, _ = replace_convs(Net(), BSConvU, Where(include=("conv1",)))
    second, report = replace_convs(first, DOConv2d, Where(groups=("dense", "depthwise")))
    assert [row.name for row in report.replaced] == ["conv2"]
    assert isinstance(second.conv1, BSConvU)


def test_a_narrower_layer_takes_the_norm_out_and_narrows_the_1x1_behind():
    model = Net()
    new, report = replace_convs(model, SlimConv2d, input_size=(3, 8, 8))
    (row,) = report.replaced
    assert (row.name, row.after, row.dropped, row.narrowed) == ("conv2", "SlimConv2d →24", ("norm2",), ("conv3",))
    assert isinstance(new.norm2, nn.Identity)
    assert torch.equal(new.conv3.weight, model.conv3.weight[:, :24])
    assert new(torch.randn(2, 3, 9, 9)).shape == (2, 10)


def test_a_narrower_layer_is_kept_out_where_the_width_is_needed():
    _, report = replace_convs(Net(), SlimConv2d)
    (kept,) = report.kept
    assert (kept.name, kept.before) == ("conv1", "3×3 32→32")
    assert kept.reason == (
        "SlimConv2d outputs 24 of 32 channels, and its output goes into 'add', not into dense 1×1 convolutions alone; "
        "conv.layer.restore_width=true brings the others back"
    )


def test_with_restore_width_the_norm_stays():
    new, report = replace_convs(Net(), partial(SlimConv2d, restore_width=True))
    assert [row.name for row in report.replaced] == ["conv1", "conv2"]
    assert report.replaced[1].dropped == report.replaced[1].narrowed == ()
    assert isinstance(new.norm2, nn.BatchNorm2d)
    assert new.conv3.in_channels == 32


def test_a_consumer_that_is_replaced_too_is_built_for_the_narrower_input():
    new, report = replace_convs(Net(), partial(_slim_or_bsconv), Where(kernel_sizes=(1, 3), exclude=("conv1",)))
    assert [(row.name, row.before) for row in report.replaced] == [("conv2", "3×3 32→32 /2"), ("conv3", "1×1 24→64")]
    assert new.conv3.in_channels == 24
    assert new(torch.randn(2, 3, 8, 8)).shape == (2, 10)


def _slim_or_bsconv(in_channels, out_channels, kernel_size, **others):
    layer = SlimConv2d if kernel_size == (3, 3) else BSConvU
    return layer(in_channels, out_channels, kernel_size, **others)


def test_without_a_graph_only_rewiring_is_refused():
    class Branches(Net):
        def forward(self, x):
            return super().forward(x if x.sum() > 0 else -x)

    _, report = replace_convs(Branches(), BSConvU, input_size=(3, 8, 8))
    assert [row.name for row in report.replaced] == ["conv1", "conv2"]
    assert report.remark.startswith("The model cannot be traced (symbolically traced variables")
    with pytest.raises(UserError, match=r"and the model cannot be traced .*; conv\.layer\.restore_width=true"):
        replace_convs(Branches(), SlimConv2d)


def mobile_net(num_classes=10):
    unit = DepthwiseSeparableConv2d(8, 16, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(nn.Conv2d(3, 8, 3), unit, nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, num_classes, 1))


def test_a_depthwise_separable_unit_is_replaced_whole():
    new, report = replace_convs(mobile_net(), BSConvU, Where(stem=True), units={"depthwise_separable": BSConvU})
    assert [row.name for row in report.replaced] == ["1"]
    assert isinstance(new[1], BSConvU)
    assert isinstance(new[2], nn.BatchNorm2d)
    assert report.rule == "BSConvU for each depthwise-separable"
    assert report.others == {"dense 3×3 (stem)": 1, "dense 1×1": 1}  # not what was inside the unit


def test_projections_gain_a_penalty_and_keep_their_weights():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(), nn.Conv2d(8, 4, 1))
    new, report = replace_convs(model, BSConvS, units={"projection": OrthonormalConv2d}, input_size=(3, 8, 8))
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(new(x), model(x))
    assert new.state_dict().keys() == model.state_dict().keys()
    assert report.penalties == ("3",)
    assert report.same_architecture
    assert (report.params_before, report.macs_before) == (report.params_after, report.macs_after)


def test_the_report_counts_what_profiling_counts():
    model = Net()
    new, report = replace_convs(model, BSConvS, input_size=(3, 8, 8))
    before, after = complexity(model, (3, 8, 8)), complexity(new, (3, 8, 8))
    assert (report.params_before, report.params_after) == (before.params, after.params)
    assert (report.macs_before, report.macs_after) == (before.macs, after.macs)
    # the first, by hand: 8·8 pixels, 9·32·32 weights before; 32·8 + 8·32 + 9·32 after
    assert report.replaced[0].macs_before == 64 * 9 * 32 * 32
    assert report.replaced[0].macs_after == 64 * (32 * 8 + 8 * 32 + 9 * 32)
    assert report.replaced[0].params_before == 9 * 32 * 32
    assert report.replaced[0].params_after == 32 * 8 + 8 * 32 + 9 * 32
    assert report.penalties == ("conv1", "conv2")
    assert not report.same_architecture
    assert report.others == {"dense 3×3 (stem)": 1, "dense 1×1": 1}


def test_without_a_size_macs_stay_uncounted():
    _, report = replace_convs(Net(), BSConvU)
    assert report.macs_before is report.macs_after is report.replaced[0].macs_after is None
    assert report.params_after < report.params_before


def test_an_image_that_does_not_fit_is_the_users_to_put_right():
    with pytest.raises(UserError, match=r"input_size=\(1, 8, 8\): Net does not run on an image of 1×8×8"):
        replace_convs(Net(), BSConvU, input_size=(1, 8, 8))


def test_what_the_layer_refuses_is_kept_with_its_reason():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 8, 3))
    _, report = replace_convs(model, BSConvU, Where(groups=("dense", "grouped")))
    assert [(kept.name, kept.reason) for kept in report.kept] == [
        ("1", "groups=2: BSConvU is defined for groups=1 only")
    ]


def test_what_shares_its_weight_is_kept():
    model = Net()
    model.conv1.weight = model.conv2.weight
    with pytest.raises(UserError, match=r"conv1 \(3×3 32→32\): it shares its weight with conv2\.weight"):
        replace_convs(model, BSConvU)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular"])
def test_padding_modes_and_words(mode):
    conv = nn.Conv2d(4, 4, 3, padding="same", padding_mode=mode)
    new, _ = replace_convs(nn.Sequential(conv), BSConvU, Where(stem=True))
    assert new[0].padding == (1, 1)
    assert new[0].padding_mode == mode


def test_no_layer_replaces_nothing():
    new, report = replace_convs(Net(), None, input_size=(3, 8, 8))
    assert report.replaced == report.kept == ()
    assert report.macs_before == report.macs_after == complexity(new, (3, 8, 8)).macs


def test_the_result_is_pickled_and_copied():
    new, _ = replace_convs(Net(), SPConv2d)
    buffer = io.BytesIO()
    torch.save(copy.deepcopy(new).state_dict(), buffer)
    buffer.seek(0)
    new.load_state_dict(torch.load(buffer, weights_only=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": BSConvU(3, 3, 3)}, r"conv\.layer: a BSConvU; something to call with nn\.Conv2d's arguments"),
        ({"layer": "BSConvU"}, r"conv\.layer: a str; .*_partial_: true"),
        (
            {"layer": BSConvU, "where": {"stem": True}},
            r"conv\.where=\{'stem': True\}: an efficientconv\.compose\.Where",
        ),
        (
            {"layer": None, "units": {"projektion": BSConvU}},
            r"conv\.units\.projektion: there is no such unit; .*: projection, d",
        ),
        ({"layer": None, "units": {"projection": None}}, r"conv\.units\.projection: a NoneType; something to call"),
    ],
)
def test_arguments_of_no_use_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        replace_convs(Net(), **arguments)


def test_create_model_builds_and_replaces():
    conv = {"layer": BSConvU, "where": Where(stem=True), "units": None, "regularization_weight": 0.0}
    model, report = create_model(Net, conv, num_classes=7)
    assert model(torch.randn(2, 3, 8, 8)).shape == (2, 7)
    assert len(report.replaced) == 3
    assert report.macs_after == complexity(model, (3, 32, 32)).macs


def test_create_model_standard():
    conv = {"layer": None, "where": None, "units": None, "regularization_weight": 0.0}
    model, report = create_model(Net, conv, num_classes=7, input_size=(3, 8, 8))
    assert type(model.conv1) is nn.Conv2d
    assert report.replaced == ()


def test_create_model_refuses_unknown_keys():
    with pytest.raises(UserError, match=r"conv\.wheer: there is no such key; nearest first: where, layer"):
        create_model(Net, {"layer": BSConvU, "wheer": Where()}, num_classes=7)


def test_new_layers_begin_near_the_old_ones_when_asked():
    conv = nn.Conv2d(8, 8, 3, padding=1)
    model = nn.Sequential(conv, nn.Conv2d(8, 8, 3, padding=1))
    for layer, error in ((DOConv2d, 0.0), (BSConvU, pytest.approx(0.85, abs=0.1))):
        _, report = replace_convs(model, layer, Where(stem=True), begin_near=True)
        assert [row.error for row in report.replaced] == [error, error]
        _, report = replace_convs(model, layer, Where(stem=True))
        assert [row.error for row in report.replaced] == [None, None]
    images = torch.randn(2, 8, 5, 5)
    new, _ = replace_convs(model, DOConv2d, Where(stem=True), begin_near=True)
    assert torch.allclose(new(images), model(images), atol=1e-6)
