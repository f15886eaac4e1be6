import torch
from torch import nn
from torch.nn import functional as F

from efficientconv.compose.graph import Graph, is_dense_1x1, is_norm
from efficientconv.layers import BSConvU, DepthwiseSeparableConv2d


class Swish(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(x)


class Stems(nn.Module):
    """Two stems behind a norm and arithmetic, one ordinary convolution, one behind a pooling."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.5))
        self.norm = nn.BatchNorm2d(3)
        self.act = Swish()
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.b = nn.Conv2d(3, 4, 3, padding=1)
        self.c = nn.Conv2d(4, 4, 3, padding=1)
        self.pooled = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x, features: bool = False):
        x = self.act(self.norm((x - self.mean) / 0.25))
        out = self.c(F.relu(self.a(x) + self.b(x)))
        small = self.pooled(F.avg_pool2d(x, 2))
        return (out, small) if features else out.mean((2, 3)) + small.mean((2, 3))


def test_stems_see_the_image_through_norms_and_elementwise_operations():
    assert Graph(Stems()).stems == {"a", "b"}


class SqueezeExcitation(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.reduce = nn.Conv2d(channels, 4, 1)
        self.expand = nn.Conv2d(4, channels, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True)))))


class InvertedResidual(nn.Module):
    def __init__(self, channels=8, hidden=16, out=8):
        super().__init__()
        self.expand = nn.Conv2d(channels, hidden, 1)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.norm = nn.BatchNorm2d(hidden)
        self.act = nn.Hardswish()
        self.se = SqueezeExcitation(hidden)
        self.project = nn.Conv2d(hidden, out, 1)

    def forward(self, x):
        return self.project(self.se(self.act(self.norm(self.depthwise(self.expand(x))))))


def test_projection_is_the_1x1_behind_depthwise_norm_activation_and_se():
    assert Graph(nn.Sequential(InvertedResidual(), InvertedResidual())).projections == {"0.project", "1.project"}


def test_projection_does_not_widen():
    assert Graph(InvertedResidual(out=16)).projections == {"project"}
    assert Graph(InvertedResidual(out=17)).projections == set()


def test_no_projection_behind_a_pooling_or_a_grouped_convolution():
    depthwise, grouped = nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 3, groups=4)
    assert Graph(nn.Sequential(depthwise, nn.MaxPool2d(2), nn.Conv2d(8, 4, 1))).projections == set()
    assert Graph(nn.Sequential(grouped, nn.Conv2d(8, 4, 1))).projections == set()


def test_the_pointwise_part_of_a_depthwise_separable_unit_is_no_projection():
    graph = Graph(nn.Sequential(DepthwiseSeparableConv2d(8, 8, 3, padding=1), nn.ReLU()))
    assert graph.projections == set()
    assert len(graph.calls("0.pointwise")) == 1  # the graph looks into the unit


def test_variants_are_leaves():
    graph = Graph(nn.Sequential(BSConvU(8, 8, 3, padding=1), nn.ReLU()))
    assert list(graph.order) == ["0", "1"]


def test_order_is_that_of_the_forward_pass():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Conv2d(4, 4, 3)
            self.first = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.last(self.first(x))

    assert list(Graph(Backwards()).order) == ["first", "last"]


class Untraceable(nn.Module):
    """Branches on values, so that it has no graph."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        x = self.stem(x)
        return self.body(x) if x.sum() > 0 else x


def test_without_a_graph_the_first_shape_decides_the_stem():
    graph = Graph(Untraceable())
    assert "control flow" in (graph.untraceable or "")
    assert graph.stems == {"stem"}
    assert graph.projections == set()
    assert graph.calls("stem") == []


def test_parameters_that_the_model_reads_itself():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return F.conv2d(x, self.conv.weight * 2)

    assert Graph(Functional()).read_parameters == {"conv.weight"}


def test_tracing_leaves_the_model_alone():
    class Remembers(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            self.seen = self.conv(x)
            return self.seen

    model = Remembers()
    Graph(model)
    assert not hasattr(model, "seen")


def test_is_norm():
    class FrozenBatchNorm(nn.Module):
        pass

    class NormFreeBlock(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3)

    assert all(
        is_norm(module) for module in (nn.BatchNorm2d(3), nn.GroupNorm(1, 3), nn.LayerNorm(3), FrozenBatchNorm())
    )
    assert not any(is_norm(module) for module in (None, nn.ReLU(), NormFreeBlock()))


def test_is_dense_1x1():
    assert is_dense_1x1(nn.Conv2d(4, 8, 1, stride=2))
    assert not any(map(is_dense_1x1, (None, nn.Linear(4, 4), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 1, groups=2))))
