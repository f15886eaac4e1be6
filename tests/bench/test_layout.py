import pytest
from rich.console import Console

from efficientconv.bench.contest import COPY, PRODUCT, Contest
from efficientconv.bench.layout import about, ratio_cell, table, warning
from efficientconv.bench.rounds import Rounds


def printed(*contests):
    screen = Console(width=120)
    with screen.capture() as captured:
        screen.print(table(contests, 120))
    return [line.rstrip() for line in captured.get().splitlines()]


def contest(task, forms, rates, **more):
    rounds = Rounds(
        f"standard {forms[0]}", {name: [rate * each for each in (0.98, 1, 1.02)] for name, rate in rates.items()}
    )
    convs = tuple(dict.fromkeys(name.split()[0] for name in rates if name not in (COPY, PRODUCT)))
    macs = dict.fromkeys(rates, 2360000)
    return Contest("16×16", task, "nn.Conv2d", forms, convs, 10, rounds, macs=macs, **more)


def test_ratio_then_limit_then_time_and_the_fastest_first():
    rates = {"slow eager": 500.0, "standard eager": 1000.0, "standard folded": 1000.0, "slow folded": 2000.0}
    machine = {COPY: 12.3e9, PRODUCT: 50e9}
    limits = {name: [0.5, 0.25, 0.75] for name in rates}
    forward = contest("forward", ("eager", "folded"), rates | machine, of_limit=limits)
    both = contest("both", ("eager",), {"slow eager": 1.0, "standard eager": 4.0} | machine, of_limit=limits)
    lines = printed(forward, both)
    assert lines[0] == "16×16; the machine copies 12.3 GB/s and multiplies 50.0 GMAC/s"
    assert lines[4].split() == ["conv", "MACs,", "M", *["×", "nn.Conv2d", "limit", "ms"] * 3]
    assert lines[6].split() == ["standard", "2.36", "1", "0.50", "10.0", "1", "0.50", "10.0", "1", "0.50", "2,500"]
    assert lines[7].split() == [
        *["slow", "2.36", "0.50", "±0.00", "0.50", "20.0", "2.00", "±0.00", "0.50", "5.00"],
        *["0.25", "±0.00", "0.50", "10,000"],
    ]


def test_images_per_second_memory_and_what_has_no_part():
    rates = {"standard eager": 1234.0, "fast eager": 2468.0, "standard folded": 1234.0}
    peaks = {"standard eager": 3 * 2**20, "fast eager": None, "standard folded": 2**20}
    lines = printed(contest("inference", ("eager", "folded"), rates, peaks=peaks))
    assert lines[0] == "16×16"
    assert lines[6].split() == ["fast", "2.36", "2.00", "±0.00", "2,468", "0"]
    assert lines[7].split() == ["standard", "2.36", "1", "1,234", "3", "1", "1,234", "1"]


def test_ratios():
    assert ratio_cell([1.0, 1.2, 1.4, 1.6, 9.0]) == "1.40 ±0.20"
    assert ratio_cell([0.5, 0.7]) == "0.60"
    assert ratio_cell([1.0, 1.0, 1.0]) == "1"


@pytest.mark.parametrize(("rounds", "ends"), [(2, "at least 20 ms each"), (3, "±: half of the interquartile range")])
def test_how_the_figures_were_found(rounds, ends):
    assert about(rounds, 0.02).startswith(f"medians of {rounds} rounds in alternating order")
    assert about(rounds, 0.02).endswith(ends)


def test_a_machine_that_is_not_quiet():
    steady = contest("forward", ("eager",), {"standard eager": 1.0, "other eager": 2.0})
    assert steady.spreads() == [0.0]
    assert warning([steady]) is None
    steady.rounds.rates["other eager"] = [1.0, 2.0, 3.0]
    restless = steady.spreads()[0]
    assert 0.2 < restless < 0.3
    assert warning([steady]) == (
        f"the ratios of half of all contenders spread by ±{restless:.0%} and more: measure on a quiet machine"
    )
    assert warning([contest("forward", ("eager",), {"standard eager": 1.0})]) is None
