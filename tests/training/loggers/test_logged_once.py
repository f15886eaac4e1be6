"""A metric is let through once for each step, whoever asks, also after a restart."""

from efficientconv.training.loggers.logged_once import LoggedOnce


def test_steps_that_are_taken_again_are_dropped(tmp_path):
    file = tmp_path / "wandb" / "logged.json"
    first = LoggedOnce(file)
    assert first.new({"loss": 2.0}, 4) == {"loss": 2.0}
    assert first.new({"top1": 0.5}, 4) == {"top1": 0.5}  # of the same step, by somebody else
    again = LoggedOnce(file)
    assert again.new({"loss": 2.0, "top1": 0.5, "lr": 0.1}, 4) == {"lr": 0.1}
    assert again.new({"loss": 1.0}, 3) == {}
    assert again.new({"loss": 1.0}, 5) == {"loss": 1.0}


def test_what_has_no_step_is_always_new(tmp_path):
    logged = LoggedOnce(tmp_path / "logged.json")
    assert [logged.new({"loss": 1.0}, None) for _ in range(2)] == [{"loss": 1.0}] * 2


def test_a_file_that_a_power_cut_has_emptied_is_as_none(tmp_path):
    (tmp_path / "logged.json").write_text("")
    assert LoggedOnce(tmp_path / "logged.json").new({"loss": 1.0}, 0) == {"loss": 1.0}
