import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn import functional as F

from efficientconv.compose.graph import Graph
from efficientconv.compose.rewire import Rewiring, carry_out, plan_rewiring


class Bottleneck(nn.Module):
    """conv → norm → behind → last, where a test puts what it likes."""

    def __init__(self, behind=None, last=None, norm=None):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = norm or nn.BatchNorm2d(8)
        self.behind = behind or nn.ReLU()
        self.last = last or nn.Conv2d(8, 16, 1)

    def forward(self, x):
        return self.last(self.behind(self.norm(self.conv(x))))


@pytest.mark.parametrize(
    "behind",
    [nn.ReLU(), nn.PReLU(), nn.Sequential(nn.SiLU(), nn.MaxPool2d(2)), nn.AdaptiveAvgPool2d(1), nn.Dropout(0.1)],
)
def test_norm_goes_and_1x1_narrows_behind_activation_and_pooling(behind):
    plan = plan_rewiring(Graph(Bottleneck(behind)), "conv")
    assert plan == Rewiring(norms=("norm",), consumers=("last",))


@pytest.mark.parametrize(
    ("behind", "in_the_way"),
    [
        (nn.BatchNorm2d(8), r"behind \(BatchNorm2d\)"),
        (nn.PReLU(8), r"behind \(PReLU\)"),
        (nn.Flatten(), r"behind \(Flatten\)"),
        (nn.Conv2d(8, 8, 3, padding=1, groups=8), r"behind \(Conv2d\)"),
        (nn.ChannelShuffle(2), r"behind \(ChannelShuffle\)"),
    ],
)
def test_anything_else_stops(behind, in_the_way):
    with pytest.raises(ValueError, match=f"its output goes into {in_the_way}, not into dense 1×1 convolutions alone"):
        plan_rewiring(Graph(Bottleneck(behind)), "conv")


@pytest.mark.parametrize(
    ("last", "in_the_way"),
    [
        (nn.Conv2d(8, 16, 3), r"last \(Conv2d\)"),
        (nn.Conv2d(8, 16, 1, groups=2), r"last \(Conv2d\)"),
        (nn.Identity(), "the model's output"),
    ],
)
def test_the_consumer_must_be_a_dense_1x1(last, in_the_way):
    with pytest.raises(ValueError, match=f"goes into {in_the_way}"):
        plan_rewiring(Graph(Bottleneck(last=last)), "conv")


class Joins(nn.Module):
    def __init__(self, join):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 16, 1)
        self.join = join

    def forward(self, x):
        return self.last(self.join(self.conv(x), x))


@pytest.mark.parametrize(
    ("join", "word"),
    [
        (torch.add, "add"),
        (lambda y, x: torch.cat((y, x), 1), "cat"),
        (lambda y, x: y * torch.sigmoid(y.mean((2, 3), keepdim=True)), "mul"),
        (lambda y, x: y.flatten(1), "flatten"),
    ],
)
def test_add_cat_se_and_flatten_stop(join, word):
    with pytest.raises(ValueError, match=f"goes into '{word}'"):
        plan_rewiring(Graph(Joins(join)), "conv")


def test_functions_are_followed():
    functions = Joins(lambda y, x: F.max_pool2d(F.relu(y), 2))
    assert plan_rewiring(Graph(functions), "conv") == Rewiring(norms=(), consumers=("last",))


class Fork(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.left = nn.Conv2d(8, 4, 1)
        self.right = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        y = F.relu(self.conv(x))
        return self.left(y) + self.right(F.relu(y))


def test_all_consumers_narrow():
    model = Fork()
    plan = plan_rewiring(Graph(model), "conv")
    assert plan.consumers == ("left", "right")
    carry_out(model, plan, 6)
    assert model.left.weight.shape == model.right.weight.shape == (4, 6, 1, 1)


@pytest.mark.parametrize("shared", ["norm", "last"])
def test_what_is_called_twice_stops(shared):
    class Twice(Bottleneck):
        def forward(self, x):
            y = super().forward(x)
            return self.last(y[:, :8]) + y if shared == "last" else y + self.norm(x).mean()

    with pytest.raises(ValueError, match=f"{shared} behind it is called more than once"):
        plan_rewiring(Graph(Twice()), "conv")


def test_without_a_graph_or_a_call_it_says_so():
    class Branches(Bottleneck):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else x

    class Unused(Bottleneck):
        def forward(self, x):
            return self.last(x)

    with pytest.raises(ValueError, match=r"the model cannot be traced \(symbolically traced variables"):
        plan_rewiring(Graph(Branches()), "conv")
    with pytest.raises(ValueError, match="the forward pass does not reach it"):
        plan_rewiring(Graph(Unused()), "conv")


def test_an_output_that_nothing_takes_stops():
    class Ignores(Bottleneck):
        def forward(self, x):
            self.norm(self.conv(x))
            return self.last(x)

    with pytest.raises(ValueError, match="nothing takes its output"):
        plan_rewiring(Graph(Ignores()), "conv")


def test_carried_out_the_consumer_sees_the_first_channels():
    model = Bottleneck()
    before = model.last
    carry_out(model, Rewiring(("norm",), ("last",)), 6)
    assert isinstance(model.norm, nn.Identity)
    assert model.last.in_channels == 6
    x = torch.randn(2, 6, 4, 4)
    torch.testing.assert_close(model.last(x), before(F.pad(x, (0, 0, 0, 0, 0, 2))))


def test_an_activation_inside_the_norm_stays():
    model = Bottleneck(behind=nn.Identity(), norm=BatchNormAct2d(8, act_layer=nn.Hardswish))
    carry_out(model, plan_rewiring(Graph(model), "conv"), 6)
    x = torch.randn(2, 8, 4, 4)
    torch.testing.assert_close(model.norm(x.clone()), F.hardswish(x))


def test_frozen_weights_stay_frozen_and_other_names_follow():
    model = Bottleneck()
    model.alias = model.last
    model.last.weight.requires_grad_(False)
    carry_out(model, Rewiring((), ("last",)), 6)
    assert model.alias is model.last
    assert not model.last.weight.requires_grad
    assert model.last.bias.requires_grad
