import math

import pytest

from efficientconv.backbones.checks import check_choice, check_count, check_layers, scale_channels


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "3"])
def test_count_is_a_positive_whole_number(value):
    with pytest.raises(ValueError, match=rf"^groups={value!r}: must be a whole number of at least 1$"):
        check_count("groups", value)
    check_count("groups", 1)


def test_choice_lists_the_choices():
    with pytest.raises(ValueError, match=r"^shortcut='C': must be one of A, B$"):
        check_choice("shortcut", "C", ("A", "B"))
    check_choice("shortcut", "A", ("A", "B"))


@pytest.mark.parametrize("layers", [[3, 4, 6], [3, 4, 6, 0], [3, 4, 6, 1.5], []])
def test_layers_are_one_count_a_stage(layers):
    with pytest.raises(ValueError, match=r"^layers=\[.*\]: must be 4 whole numbers of at least 1, the units of each"):
        check_layers(layers, stages=4)
    check_layers([1, 1, 1, 1], stages=4)


def test_channels_are_rounded_down():
    assert scale_channels(24, 0.35) == 8  # 8.4
    assert scale_channels(16, 10) == 160


@pytest.mark.parametrize("width", [0, -1, math.inf, math.nan, "wide", True])
def test_width_is_a_positive_number(width):
    with pytest.raises(ValueError, match=rf"^width={width!r}: must be a multiplier above 0$"):
        scale_channels(16, width)


def test_width_leaves_a_channel():
    with pytest.raises(ValueError, match=r"^width=0.05: leaves none of 16 channels; must be at least 1/16$"):
        scale_channels(16, 0.05)
