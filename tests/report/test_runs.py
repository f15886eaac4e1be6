import sys
from subprocess import run

import pytest

from efficientconv.errors import UserError
from efficientconv.report.runs import find_runs


def test_finished_runs_are_found_below_several_directories_once(runs, tmp_path):
    first, second = runs.add("seed=0"), runs.add("seed=1")
    found = find_runs([tmp_path, runs.root, second])
    assert [run.directory for run in found.runs] == [first, second]
    assert [run.seed for run in found.runs] == [0, 1]
    assert found.left_out() == []


def test_what_is_not_finished_or_not_readable_is_left_out_and_named(runs):
    runs.add()
    for status in ("running", "failed", "failed"):
        runs.add(status=status)
    cut, empty, foreign, summary_only = (runs.add() for _ in range(4))
    (cut / "summary.json").write_text('{"status": "do')
    (empty / "config.yaml").write_text("")
    (foreign / "config.yaml").write_text("defaults: [model]\n")
    (summary_only / "config.yaml").unlink()
    found = find_runs([runs.root])
    assert len(found.runs) == 1
    assert found.left_out() == [
        "not finished, and left out: 2 failed, 1 running",
        f"left out: {cut}: summary.json is empty or damaged",
        f"left out: {empty}: config.yaml is empty or damaged",
        f"left out: {foreign}: config.yaml is not that of a run: it has no model, conv, data, recipe, trainer, "
        "callbacks, logger, choices",
        f"left out: {summary_only}: it has no config.yaml",
    ]


def test_a_configuration_cannot_build_anything(runs):
    runs.add()
    evil = runs.add()
    (evil / "config.yaml").write_text("!!python/object/apply:os.system ['touch evil']\n")
    assert find_runs([runs.root]).left_out() == [f"left out: {evil}: config.yaml is empty or damaged"]


def test_another_status_is_not_of_a_run(runs):
    runs.add()
    odd = runs.add(status="fine")
    assert find_runs([runs.root]).left_out() == [
        f"left out: {odd}: summary.json is not that of a run: its status is 'fine'"
    ]


def test_no_directory_and_no_run_are_one_line_each(runs, tmp_path):
    with pytest.raises(UserError, match=r"^nowhere: there is no such directory \(looked in /"):
        find_runs(["nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: no finished run below \(nothing that python train.py wrote\)$"):
        find_runs([tmp_path / "empty"])
    runs.add(status="interrupted")
    with pytest.raises(UserError, match=r"no finished run below \(not finished, and left out: 1 interrupted\)$"):
        find_runs([runs.root])


def test_options_are_what_decides_the_training(runs):
    runs.add("conv=bsconv_s", "conv.layer.p=0.5", "seed=3", "outputs=elsewhere")
    (found,) = find_runs([runs.root]).runs
    assert found.options["conv"] == "bsconv_s"
    assert found.options["conv.layer.p"] == "0.5"
    assert found.options["trainer.max_epochs"] == "30"
    assert not {"seed", "data.seed", "outputs", "trainer.accelerator", "recipe.max_epochs"} & found.options.keys()
    assert found.named == {"conv", "conv.layer.p", "seed", "outputs"}


def test_the_number_of_devices_is_the_one_that_was_used(runs):
    runs.add("trainer.devices=auto", devices=4)
    (found,) = find_runs([runs.root]).runs
    assert found.options["trainer.devices"] == "4"


def test_reading_imports_no_torch(runs):
    runs.add()
    config = {
        "places": [str(runs.root)],
        "group_by": None,
        "baseline": None,
        "metric": "last",
        "save": None,
        "bench": None,
    }
    code = (
        "import sys\n"
        "from efficientconv.report import tool\n"
        f"tool.run({config | {'format': 'csv'}})\n"
        "assert 'torch' not in sys.modules"
    )
    done = run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("setting,conv,metric,top1_mean")
