from functools import partial

import pytest
from torch import nn

from efficientconv.compose import Where, replace_convs
from efficientconv.compose.explain import in_words, name_of
from efficientconv.errors import UserError
from efficientconv.layers import BSConvS, BSConvU, OrthonormalConv2d, SlimConv2d


def refusal(model, layer, where=Where(), **others):  # noqa: B008
    with pytest.raises(UserError) as caught:
        replace_convs(model, layer, where, **others)
    message = str(caught.value)
    assert "\n" not in message
    return message


def resnext_like():
    return nn.Sequential(
        nn.Conv2d(3, 8, 7), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, groups=4), nn.Conv2d(8, 8, 3, groups=4)
    )


def test_nothing_selected_says_what_was_asked_what_there_is_and_what_would_help():
    assert refusal(resnext_like(), BSConvU, Where(kernel_sizes=(3, 5))) == (
        "conv.where selects nothing in Sequential: it asks for dense 3×3 or 5×5, without the stem; the model has "
        "2 grouped 3×3, 1 dense 7×7 (stem), 1 dense 1×1. What would select some: conv.where.kernel_sizes=null "
        "conv.where.groups=[dense,depthwise,grouped] conv.where.stem=true (1 dense 7×7 (stem)). "
        "The layer refuses 2 grouped 3×3; the first of these: groups=4: BSConvU is defined for groups=1 only"
    )


def test_one_change_that_helps_is_named_before_several():
    message = refusal(resnext_like(), nn.Conv2d, Where(kernel_sizes=(3,)))
    assert "What would select some: conv.where.groups=[dense,depthwise,grouped] (2 grouped 3×3)." in message


@pytest.mark.parametrize(
    ("where", "change"),
    [
        (Where(kernel_sizes=(5,)), "conv.where.kernel_sizes=null"),
        (Where(groups=("grouped",)), "conv.where.groups=[dense,depthwise,grouped]"),
        (Where(min_channels=64), "conv.where.min_channels=1"),
        (Where(include=("layer*",)), "conv.where.include=['*']"),
        (Where(exclude=("1*",), include=("1*",)), "conv.where.exclude=[]"),
    ],
)
def test_every_part_of_where_can_be_what_is_in_the_way(where, change):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3))
    assert f"What would select some: {change} (1 dense 3×3)." in refusal(model, BSConvU, where)


def test_the_stem_can_be_what_is_in_the_way():
    message = refusal(nn.Sequential(nn.Conv2d(3, 8, 3)), BSConvU)
    assert "What would select some: conv.where.stem=true (1 dense 3×3 (stem))." in message


def test_where_nothing_helps_it_says_so():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8))
    assert refusal(model, SlimConv2d).endswith(
        "No other conv.where would help. The layer refuses 1 dense 3×3 (stem), 1 depthwise 3×3; the first of these: "
        "out_channels=8: must equal in_channels=3, since SlimConv2d folds one width"
    )


def test_names_that_leave_out_all_units_of_instead():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1))
    message = refusal(model, BSConvS, Where(exclude=("*",)), units={"projection": OrthonormalConv2d})
    assert "names unlike *" in message
    assert "What would select some: conv.where.exclude=[] (1 dense 1×1)." in message


def test_a_model_without_convolutions():
    message = refusal(nn.Sequential(nn.Flatten(), nn.Linear(3, 3)), BSConvU)
    assert message == "Sequential has no convolution that could be replaced; conv=standard leaves it as it is"


def test_instead_alone_in_a_model_without_such_a_unit():
    message = refusal(resnext_like(), None, units={"depthwise_separable": BSConvU})
    assert message.startswith("conv.where selects nothing in Sequential")
    assert message.endswith("No other conv.where would help. ") or message.endswith("No other conv.where would help.")


def test_all_kept_names_the_first_reasons_that_differ():
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3), nn.Conv2d(32, 32, 3), nn.Conv2d(32, 64, 3), nn.Conv2d(64, 8, 3)
    )
    assert refusal(model, SlimConv2d) == (
        "SlimConv2d can replace none of the 4 convolutions that conv.where selects: "
        "1 (3×3 32→32): SlimConv2d outputs 24 of 32 channels, and its output goes into 2 (Conv2d), not into dense 1×1 "
        "convolutions alone; conv.layer.restore_width=true brings the others back; "
        "3 (3×3 32→64): out_channels=64: must equal in_channels=32, since SlimConv2d folds one width"
    )


def test_all_kept_counts_the_reasons_that_it_does_not_show():
    reasons = iter(("one", "two", "three", "four"))

    def stubborn(*arguments, **others):
        raise ValueError(next(reasons))

    message = refusal(nn.Sequential(*(nn.Conv2d(8, 8, 3) for _ in range(5))), stubborn)
    assert message == (
        "stubborn can replace none of the 4 convolutions that conv.where selects: 1 (3×3 8→8): one; 2 (3×3 8→8): two; "
        "3 (3×3 8→8): three; other reasons: 1"
    )


def test_name_of():
    assert name_of(BSConvU) == "BSConvU"
    assert name_of(partial(BSConvU)) == "BSConvU"
    assert name_of(partial(BSConvS, p=1 / 6, with_bn=True)) == "BSConvS(p=0.1667, with_bn=True)"


def test_in_words():
    where = Where(groups=("dense", "grouped"), stem=True, min_channels=32, include=("a.*", "b.*"), exclude=("c",))
    assert in_words(where) == (
        "dense or grouped, any kernel but 1×1, stem included, at least 32 channels, names like a.* or b.*, "
        "names unlike c"
    )
