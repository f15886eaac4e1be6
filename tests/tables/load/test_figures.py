from fractions import Fraction

import pytest

from efficientconv.tables.load.figures import Figure, printed


@pytest.mark.parametrize(
    ("text", "unit", "truncated", "exact", "agrees"),
    [
        ("0.28", "M", False, 278_330, True),
        ("0.27", "M", False, 278_330, False),
        ("0.27", "M", True, 278_330, True),
        ("0.10", "M", True, 105_082, True),
        ("0.10", "M", False, 105_082, False),
        ("0.1", "M", False, 105_082, True),  # as many digits as were printed, and no more
        ("4.14", "G", False, 4_135_789_544, True),
        ("313", "M", False, 313_500_000, False),  # half up
        ("314", "M", False, 313_500_000, True),
        ("313", "M", True, 313_999_999, True),
        ("37", "%", False, Fraction(3711, 100), True),
    ],
)
def test_agrees_to_the_last_printed_place(text, unit, truncated, exact, agrees):
    assert Figure(text, unit, truncated).agrees(exact) is agrees


def test_value_is_without_the_factor_of_the_unit():
    assert [Figure(*pair).value for pair in (("0.28", "M"), ("25.56", "%"), ("10", "G"))] == [280_000, 25.56, 10**10]
    assert isinstance(Figure("0.28", "M").value, int)


def test_prints_as_many_places_as_asked_for():
    assert [printed(1_234_567, "M", places) for places in (0, 2, 3)] == ["1", "1.23", "1.235"]
    assert printed(5_000, "M", 2) == "0.01"
    assert printed(Fraction(-3, 2), "", 1) == "-1.5"
    assert printed(Fraction(-1, 100), "", 1) == "0.0"


def test_text_has_the_unit():
    assert [str(Figure(*pair)) for pair in (("0.70", "M"), ("95", "%"), ("1.3", "ms"))] == ["0.70 M", "95%", "1.3 ms"]


@pytest.mark.parametrize("text", ["", "3,14", "1e3", "25.56M", ".5", "nan", "-"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match=r"is not a number: must be digits with at most one point, as in 25\.56$"):
        Figure(text, "M")
