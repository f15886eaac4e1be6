import pytest
import torch

from efficientconv.bench import rounds
from efficientconv.bench.rounds import Rounds, Work, interleave, interleave_calls, quartiles, spread, timed

CPU = torch.device("cpu")


def test_ratios_are_those_within_each_round():
    measured = Rounds("plain", {"plain": [100.0, 10.0, 50.0], "fast": [200.0, 30.0, 50.0]})
    assert measured.ratio("fast") == 2.0
    assert measured.ratio("plain") == 1.0
    assert measured.rate("fast") == 50.0
    assert measured.to_dict()["fast"] == {
        "ratio": 2.0,
        "images_per_second": 50.0,
        "ratios": [2.0, 3.0, 1.0],
        "rounds": [200.0, 30.0, 50.0],
    }
    assert spread(measured.rates["fast"]) == "30 to 200"


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until a contender moves it."""
    time = [0.0]
    monkeypatch.setattr(rounds, "now", lambda device: time[0])
    return time


def test_contenders_take_turns_and_warm_up_first(clock):
    order = []

    def contender(name, images, seconds):
        def run():
            order.append(name)
            clock[0] += seconds
            return images

        return run

    measured = interleave({"a": contender("a", 6, 2.0), "b": contender("b", 6, 3.0)}, "a", 3, seconds=1.0, device=CPU)
    assert order == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert measured.rates == {"a": [3.0] * 3, "b": [2.0] * 3}


def test_repeats_whole_passes_until_the_time_is_over(clock):
    def run():
        clock[0] += 0.9
        return 10

    assert timed(run, 2.0, CPU) == (30, pytest.approx(2.7))
    assert timed(run, 0.0, CPU) == (10, pytest.approx(0.9))


def test_calls_are_as_many_as_take_the_time_and_each_turn_begins_with_one_that_does_not_count(clock):
    order = []

    def work(name, seconds):
        def call():
            order.append(name)
            clock[0] += seconds

        return Work(call, units=6)

    measured = interleave_calls({"a": work("a", 0.5), "b": work("b", 2.0)}, "a", 2, seconds=1.5, device=CPU)
    assert measured.rates == {"a": [pytest.approx(12.0)] * 2, "b": [pytest.approx(3.0)] * 2}
    found = "".join(order)
    assert found == "aaaa" + "bb" + "a" + "aaa" + "b" + "b" + "b" + "b" + "a" + "aaa"


def test_a_call_that_takes_long_has_none_before_it(clock):
    calls = []

    def call():
        calls.append(clock[0])
        clock[0] += 8.0

    measured = interleave_calls({"a": Work(call, units=16)}, "a", 3, seconds=1.0, device=CPU)
    assert measured.rates == {"a": [2.0] * 3}
    assert len(calls) == 2 + 3


def test_the_middle_half():
    assert quartiles([5.0, 1.0, 2.0, 3.0, 4.0]) == (2.0, 4.0)
    assert quartiles([7.0]) == (7.0, 7.0)


def test_ratios_to_another_reference():
    measured = Rounds("a", {"a": [1.0, 1.0], "b": [2.0, 4.0], "c": [4.0, 4.0]})
    assert measured.ratios("c", "b") == [2.0, 1.0]
