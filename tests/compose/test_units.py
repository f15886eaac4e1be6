import pytest
import torch
from torch import nn
from torch.nn import functional as F

from efficientconv.compose import Where
from efficientconv.compose.graph import Graph
from efficientconv.compose.units import assign, describe, find_places, kind, with_ends
from efficientconv.layers import BSConvS, BSConvU, DepthwiseSeparableConv2d, OrthonormalConv2d


def places_of(model):
    return find_places(model, Graph(model))


def test_the_convolutions_inside_a_variant_are_its_own_but_not_those_of_a_depthwise_separable_unit():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), BSConvU(8, 8, 3), DepthwiseSeparableConv2d(8, 8, 3), OrthonormalConv2d(8, 4, 1)
    )
    assert [place.name for place in places_of(model)] == ["0", "2", "2.depthwise", "2.pointwise"]


def test_places_come_in_the_order_of_the_forward_pass():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Conv2d(3, 4, 3)
            self.last = nn.Conv2d(4, 4, 3)
            self.first = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.last(self.first(x))

    places = places_of(Backwards())
    assert [place.name for place in places] == ["first", "last", "unused"]
    assert [place.is_stem for place in places] == [True, False, False]


def test_a_shared_convolution_is_one_place_with_all_its_names():
    conv = nn.Conv2d(3, 3, 3, padding=1)
    (place,) = places_of(nn.Sequential(conv, nn.ReLU(), conv))
    assert place.names == ("0", "2")


def test_the_model_itself_is_no_place():
    assert places_of(nn.Conv2d(3, 3, 3)) == []
    assert places_of(BSConvU(3, 3, 3)) == []


def obstacle(model, name="conv"):
    return next(place.obstacle for place in places_of(model) if place.name == name)


class OneConv(nn.Module):
    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, x):
        return self.conv(x)


def test_an_ordinary_convolution_has_no_obstacle():
    assert obstacle(OneConv(nn.Conv2d(3, 4, 3))) == ""


def test_a_lazy_convolution_is_an_obstacle():
    assert "number of input channels is not known yet" in obstacle(OneConv(nn.LazyConv2d(4, 3)))


def test_a_shared_weight_is_an_obstacle():
    model = OneConv(nn.Conv2d(3, 4, 3))
    model.tied = nn.Conv2d(3, 4, 3)
    model.tied.weight = model.conv.weight
    assert obstacle(model) == "it shares its weight with tied.weight"


def test_a_weight_that_the_model_reads_is_an_obstacle():
    class Functional(OneConv):
        def forward(self, x):
            return F.conv2d(x, self.conv.weight * 2)

    assert obstacle(Functional(nn.Conv2d(3, 4, 3))) == "the model's forward pass reads its weight itself"


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        (nn.Conv2d(3, 8, 3), "3×3 3→8"),
        (nn.Conv2d(4, 8, (1, 7), stride=2, groups=2), "1×7 4→8 /2, 2 groups"),
        (nn.Conv2d(4, 8, 3, stride=(2, 1), dilation=2), "3×3 4→8 /2×1, dilation 2"),
        (DepthwiseSeparableConv2d(4, 8, 3, stride=2), "DepthwiseSeparableConv2d 3×3 4→8 /2"),
    ],
)
def test_describe(unit, text):
    assert describe(unit) == text


def test_kind():
    model = nn.Sequential(nn.Conv2d(3, 8, 7), DepthwiseSeparableConv2d(8, 8, 3), nn.Conv2d(8, 8, 3, groups=4))
    kinds = [kind(place) for place in places_of(model)]
    assert kinds == ["dense 7×7 (stem)", "depthwise-separable 3×3", "depthwise 3×3", "dense 1×1", "grouped 3×3"]


def mobile():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.ReLU(),
        nn.Conv2d(8, 4, 1),
        DepthwiseSeparableConv2d(4, 8, 3),
        nn.Conv2d(8, 8, 3),
    )


def names(jobs):
    return [(job.place.name, job.selected_as) for job in jobs]


def test_instead_applies_where_there_is_such_a_unit_and_layer_does_not():
    places = places_of(mobile())
    where = Where(kernel_sizes=(3,), stem=True)
    layer = BSConvS
    assert names(assign(places, layer, {}, where)) == [("0", "convolution"), ("5", "convolution")]
    assert names(assign(places, layer, {"projection": OrthonormalConv2d}, where)) == [("3", "projection")]
    assert names(assign(places, layer, {"depthwise_separable": BSConvU}, where)) == [("4", "depthwise_separable")]
    both = {"depthwise_separable": BSConvU, "projection": OrthonormalConv2d}
    assert names(assign(places, None, both, where)) == [("3", "projection"), ("4", "depthwise_separable")]


def test_without_such_a_unit_layer_applies():
    places = places_of(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)))
    assert names(assign(places, BSConvS, {"projection": OrthonormalConv2d}, Where())) == [("1", "convolution")]
    assert assign(places, None, {"projection": OrthonormalConv2d}, Where()) == []


def test_names_and_widths_speak_of_the_units_of_instead_too():
    places = places_of(mobile())
    units = {"projection": OrthonormalConv2d}
    assert assign(places, BSConvS, units, Where(exclude=("3",))) == []
    assert assign(places, BSConvS, units, Where(min_channels=5)) == []


def test_layer_walks_into_a_depthwise_separable_unit():
    places = places_of(nn.Sequential(DepthwiseSeparableConv2d(4, 8, 3)))
    jobs = assign(places, BSConvU, {}, Where(groups=("depthwise",), stem=True))
    assert names(jobs) == [("0.depthwise", "convolution")]


def test_a_meta_model_has_places_too():
    with torch.device("meta"):
        model = mobile()
    assert len(places_of(model)) == len(places_of(mobile()))


class Diamond(nn.Module):
    """Two convolutions side by side, a third behind both, and two side by side behind that."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.middle, self.up, self.down = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(5))

    def forward(self, x):
        x = self.middle(torch.relu(self.left(x) + self.right(x)))
        return self.up(x) * self.down(x)


def test_the_first_and_the_last_have_their_own_layer():
    model = Diamond()
    graph = Graph(model)
    places = find_places(model, graph)
    everything = Where(stem=True)
    jobs = with_ends(assign(places, BSConvU, {}, everything), graph, {"first": BSConvS, "last": OrthonormalConv2d})
    found = {job.place.name: (job.factory, job.selected_as) for job in jobs}
    assert found == {
        "left": (BSConvS, "first"),
        "right": (BSConvS, "first"),
        "middle": (BSConvU, "convolution"),
        "up": (OrthonormalConv2d, "last"),
        "down": (OrthonormalConv2d, "last"),
    }
    assert graph.ends({"middle", "up"}) == ({"middle"}, {"up"})
    assert [job.selected_as for job in with_ends(assign(places, BSConvU, {}, everything), graph, {})] == [
        "convolution"
    ] * 5
