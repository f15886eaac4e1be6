import re

import pytest

from efficientconv.runs.names import LONGEST_NAME, job_name, run_stamp, safe_name


def test_job_name_is_sorted_and_leaves_out_what_changes_nothing():
    overrides = ["seed=1", "conv=bsconv_u", "sweep=first", "+trainer.max_epochs=5", "logger=wandb", "outputs=/tmp/x"]
    overrides += ["trainer.accelerator=cpu", "trainer.devices=2", "logger.wandb.offline=true"]
    assert job_name(overrides) == "conv-bsconv_u_seed-1_trainer.max_epochs-5"
    assert job_name(list(reversed(overrides))) == job_name(overrides)
    assert job_name([]) == "default"


@pytest.mark.parametrize("overrides", [["data.root=/a b/c,d=e"], [f"key{i}={'v' * 20}" for i in range(20)]])
def test_odd_and_long_names_are_safe_and_still_differ(overrides):
    name = job_name(overrides)
    assert re.fullmatch(r"[A-Za-z0-9._-]+", name)
    assert len(name) <= LONGEST_NAME + 9
    assert job_name([*overrides, "seed=1"]) != name


def test_names_that_only_look_alike_stay_apart():
    assert job_name(["data.root=a/b"]) != job_name(["data.root=a,b"])


def test_safe_name_never_is_empty():
    assert safe_name("/") == "none"


def test_run_stamps_differ_within_a_second():
    stamps = {run_stamp() for _ in range(8)}
    assert len(stamps) > 1
    assert all(re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{4}", stamp) for stamp in stamps)
