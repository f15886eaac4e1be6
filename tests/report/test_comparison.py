import pytest
from scipy import stats

from efficientconv.report.comparison import compare, holm


def test_a_hand_worked_comparison():
    """Differences 1, 2, 3: mean 2, standard error 1/√3, t = 2√3 with 2 degrees of freedom."""
    found = compare({0: 11.0, 1: 22.0, 2: 33.0}, {0: 10.0, 1: 20.0, 2: 30.0})
    half = 4.302653 / 3**0.5
    assert found.difference == pytest.approx(2)
    assert (found.low, found.high) == (pytest.approx(2 - half, abs=1e-5), pytest.approx(2 + half, abs=1e-5))
    assert found.p == pytest.approx(2 * stats.t.sf(2 * 3**0.5, df=2))
    assert found.p == pytest.approx(0.074180, abs=1e-6)


def test_only_common_seeds_count():
    found = compare({0: 1.0, 1: 2.0, 7: 100.0}, {1: 1.5, 0: 0.0, 9: -50.0})
    assert found.seeds == (0, 1)
    assert found.difference == pytest.approx(0.75)
    assert compare({0: 1.0}, {1: 1.0}) is None


def test_one_common_seed_has_a_difference_and_no_test():
    found = compare({0: 1.5}, {0: 1.0, 1: 3.0})
    assert (found.difference, found.low, found.high, found.p) == (0.5, None, None, None)


def test_the_same_difference_for_every_seed_is_not_tested():
    """In floating point the differences are 0.02 ± 2e-16, of which a t-test would make p = 1e-28."""
    found = compare({0: 0.90, 1: 0.91, 2: 0.93}, {0: 0.88, 1: 0.89, 2: 0.91})
    assert found.difference == pytest.approx(0.02)
    assert found.p is None


def test_holm_by_hand():
    """The smallest of 4 times 4, the next times 3, ..., none below the one before, none above 1."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([]) == []
