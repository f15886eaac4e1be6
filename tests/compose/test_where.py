from dataclasses import FrozenInstanceError

import pytest
from torch import nn

from efficientconv.compose import Where
from efficientconv.compose.where import group_kind


def test_lists_and_single_values_become_tuples():
    where = Where(kernel_sizes=[3, 5], groups="dense", include=["a.*"], exclude="b.*")  # type: ignore[arg-type]
    assert where == Where(kernel_sizes=(3, 5), groups=("dense",), include=("a.*",), exclude=("b.*",))
    assert Where(kernel_sizes=3).kernel_sizes == (3,)  # type: ignore[arg-type]


def test_is_frozen():
    with pytest.raises(FrozenInstanceError):
        Where().stem = True  # type: ignore[misc]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": ["depthwse"]}, "'depthwse' is none of depthwise, dense, grouped"),
        ({"groups": ["group"]}, "'group' is none of grouped,"),
        ({"groups": []}, r"groups=\(\): '' is none of"),
        ({"kernel_sizes": [0]}, r"kernel_sizes=\(0,\): whole numbers of at least 1"),
        ({"kernel_sizes": []}, "null for all but 1"),
        ({"kernel_sizes": ["3x3"]}, "whole numbers"),
        ({"stem": "yes"}, "stem='yes': must be true or false"),
        ({"min_channels": 0}, "min_channels=0: must be a whole number of at least 1"),
        ({"min_channels": True}, "min_channels=True"),
        ({"include": []}, r"'\*' matches every name"),
        ({"include": None}, "include=None: patterns of dotted names"),
        ({"exclude": [3]}, r"exclude=\(3,\): patterns of dotted names"),
    ],
)
def test_bad_values_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Where(**arguments)


@pytest.mark.parametrize(
    ("conv", "word"),
    [
        (nn.Conv2d(8, 8, 3), "dense"),
        (nn.Conv2d(1, 8, 3), "dense"),
        (nn.Conv2d(8, 8, 3, groups=8), "depthwise"),
        (nn.Conv2d(8, 16, 3, groups=8), "depthwise"),
        (nn.Conv2d(8, 8, 3, groups=4), "grouped"),
    ],
)
def test_group_kind(conv, word):
    assert group_kind(conv) == word


def test_kernel_sizes_null_means_all_but_1x1():
    sizes = [1, 2, 3, (1, 7)]
    selected = [size for size in sizes if Where().selects(nn.Conv2d(4, 4, size), ["x"], is_stem=False)]
    assert selected == [2, 3, (1, 7)]


def test_kernel_sizes_are_sides_of_squares_and_may_hold_1():
    where = Where(kernel_sizes=(1, 3))
    selected = [size for size in (1, 2, 3, (1, 3)) if where.selects(nn.Conv2d(4, 4, size), ["x"], is_stem=False)]
    assert selected == [1, 3]


def test_stem_only_on_request():
    conv = nn.Conv2d(3, 8, 3)
    assert not Where().selects(conv, ["stem"], is_stem=True)
    assert Where(stem=True).selects(conv, ["stem"], is_stem=True)
    assert Where(stem=True).selects(conv, ["later"], is_stem=False)


def test_min_channels_looks_at_the_smaller_side():
    assert not Where(min_channels=8).selects(nn.Conv2d(4, 64, 3), ["x"], is_stem=False)
    assert not Where(min_channels=8).selects(nn.Conv2d(64, 4, 3), ["x"], is_stem=False)
    assert Where(min_channels=8).selects(nn.Conv2d(8, 64, 3), ["x"], is_stem=False)


def test_include_and_exclude_match_any_of_the_names():
    conv = nn.Conv2d(4, 4, 3)
    where = Where(include=("layer1.*", "head"), exclude=("*.conv2",))
    assert where.selects(conv, ["layer1.0.conv1"], is_stem=False)
    assert where.selects(conv, ["tied", "head"], is_stem=False)
    assert not where.selects(conv, ["layer2.0.conv1"], is_stem=False)
    assert not where.selects(conv, ["layer1.0.conv1", "layer1.0.conv2"], is_stem=False)
