import pytest

from efficientconv.cli.flags import OF_SINGLE_TOOLS, OF_TRAINING, require_flags
from efficientconv.errors import UserError


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "resnet20"], "--model: there is no such flag; keys are given without dashes: model=resnet20"),
        (["--seed=1"], "--seed=1: there is no such flag; keys are given without dashes: seed=1"),
        (["--multirn", "seed=1,2"], "--multirn: there is no such flag; nearest first: --multirun, "),
    ],
)
def test_refuses_what_is_no_flag(words, message):
    with pytest.raises(UserError) as caught:
        require_flags(words, OF_TRAINING, "train")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("flag", ["-m", "--multirun", "--multi"])
def test_single_tools_are_one_job(flag):
    with pytest.raises(UserError, match=f"^{flag}: efficientconv bench is one job; sweeps are for train$"):
        require_flags([flag, "seed=1,2"], OF_SINGLE_TOOLS, "bench")


def test_single_tools_say_which_flags_they_have():
    with pytest.raises(UserError, match=r"^--info: efficientconv bench has no such flag; it has --help, --cfg"):
        require_flags(["--info"], OF_SINGLE_TOOLS, "bench")


def test_takes_flags_short_cut_and_with_values():
    require_flags(
        ["-cd", "conf", "-m", "--multi", "--config-dir=conf", "--cfg", "job", "-h", "seed=-1"], OF_TRAINING, ""
    )
