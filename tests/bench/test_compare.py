import json

import pytest
from rich.console import Console

from efficientconv.bench.compare import compare, layout
from efficientconv.errors import UserError

STEADY = [1.00, 1.02, 0.98]


def contender(ratio, rate):
    return {"ratios": [ratio * each for each in STEADY], "rounds": [rate * each for each in STEADY]}


def figures(fast, reference=100.0, **more):
    plain = {"ratios": [1.0] * 3, "rounds": [reference * each for each in STEADY]}
    contenders = {"standard eager": plain, "fast eager": contender(fast, 200.0), "same eager": contender(1.0, 99.0)}
    contest = {"place": "resnet20", "task": "training", "contenders": contenders}
    return {"action": "model", "device": "a", "contests": [contest]} | more


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        file = tmp_path / name
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return file

    return write


def test_what_changed_beyond_its_spread(write):
    found = compare(write("a", figures(1.2)), write("b", figures(1.5, device="b")))
    assert [(each.name, each.factor) for each in found["changes"]] == [
        ("resnet20, training, fast eager", pytest.approx(1.25))
    ]
    assert found["within"] == 2
    assert found["conditions"] == ["device"]
    screen = Console(width=120)
    with screen.capture() as printed:
        screen.print(layout(found, ("a.json", "b.json"), 120))
    assert "fast eager           1.25   1.200   1.500" in printed.get()
    assert "The files differ in device." in printed.get()
    assert "2 of 3 figures are within their spread." in printed.get()


def test_a_slower_machine_changes_the_reference_alone(write):
    found = compare(write("a", figures(1.2)), write("b", figures(1.2, reference=50.0)))
    assert [(each.name, each.factor) for each in found["changes"]] == [("resnet20, training, standard eager", 0.5)]
    assert found["changes"][0].before.text == "100/s"


def test_ranges_that_overlap_are_no_change(write):
    assert compare(write("a", figures(1.20)), write("b", figures(1.21)))["changes"] == []


def test_benches_of_one_contest(write):
    loops = {
        "train.py's loop": contender(0.9, 90.0),
        "bare loop": {"ratios": [1.0] * 3, "rounds": [99.0, 100.0, 101.0]},
    }
    slower = loops | {"train.py's loop": contender(0.5, 50.0)}
    more = slower | {"third loop": contender(1.0, 1.0)}
    found = compare(write("a", {"action": "step", "loops": loops}), write("b", {"action": "step", "loops": more}))
    assert [each.name for each in found["changes"]] == ["train.py's loop"]
    assert (found["within"], found["only"]) == (1, 1)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("{", r"b: not a JSON file, or a damaged one$"),
        ("[1]", r"b: not a file that efficientconv bench … json=<file> wrote$"),
        ({"network": "x"}, r"b: not a file that efficientconv bench"),
        (
            {"action": "step", "loops": {}},
            r"a is of bench model and .*b of bench step: only figures of one bench can be",
        ),
        (figures(1.0, contests=[]), r"a and .*b have no measurement in common"),
        (figures(1.0, contests=[{"contenders": {"x": {"rounds": [1]}}}]), r"b: a damaged file of efficientconv bench"),
        (
            figures(1.0, contests=[{"contenders": {"x": {"ratios": [1.0], "rounds": [5.0]}}}]),
            r"b: 1 round alone tell no spread; measure with rounds=3 or more",
        ),
    ],
)
def test_files_that_cannot_be_compared(write, second, message):
    with pytest.raises(UserError, match=message):
        compare(write("a", figures(1.2)), write("b", second))


def test_a_file_that_is_not_there(write, tmp_path):
    with pytest.raises(UserError, match=r"none\.json: there is no such file"):
        compare(write("a", figures(1.2)), tmp_path / "none.json")
