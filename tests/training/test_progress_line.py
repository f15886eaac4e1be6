import re
from types import SimpleNamespace

import pytest

from efficientconv.runs.directory import RunDirectory
from efficientconv.training import progress_line
from efficientconv.training.progress_line import LogLines, Pace, in_words
from efficientconv.training.train import train
from tests.training.conftest import resolved


@pytest.mark.filterwarnings("ignore")  # what silence_lightning keeps from users
def test_where_there_is_no_terminal_the_log_says_how_far_an_epoch_is(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(LogLines, "every_seconds", 0.0)
    caplog.set_level("INFO")
    train(resolved("recipe.batch_size=24"), RunDirectory(tmp_path / "run"))
    lines = [line for line in caplog.messages if line.startswith("epoch ")]
    within = re.compile(r"epoch 2/2, batch 3/6: loss \d+\.\d{3}, top-1 \d+\.\d\d%, [\d,]+ images/s, \d+ s left")
    assert sum(bool(within.fullmatch(line)) for line in lines) == 1
    assert re.fullmatch(r"epoch 1/2: loss .*, evaluated: .*, \d+ s left", lines[6])
    assert re.fullmatch(r"epoch 2/2: loss .* images/s", lines[-1])
    assert sum("chosen on the test set" in line for line in caplog.messages) == 1


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59, "59 s"), (61, "1 min"), (3599, "60 min"), (7505, "2 h 05 min"), (360000, "100 h 00 min")],
)
def test_a_time_in_words(seconds, words):
    assert in_words(seconds) == words


def trainer_at(fraction):
    return SimpleNamespace(lr_scheduler_configs=[SimpleNamespace(scheduler=SimpleNamespace(fraction_done=fraction))])


def test_what_is_left_takes_as_long_as_what_was_done_since_the_run_went_on(monkeypatch):
    monkeypatch.setattr(progress_line.time, "monotonic", iter([100.0, 160.0]).__next__)
    pace = Pace(trainer_at(0.5))
    assert pace.time_left(trainer_at(0.5)) == ""
    assert pace.time_left(trainer_at(0.75)) == ", 1 min left"
    assert pace.time_left(trainer_at(1.0)) == ""
