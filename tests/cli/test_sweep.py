"""Which sweeps are refused, and how others end: whichever launcher runs their jobs, whatever becomes of them."""

import pytest

from efficientconv.cli.sweep import refuse_equal_jobs
from efficientconv.errors import UserError
from tests.training.conftest import TINY

pytestmark = pytest.mark.filterwarnings("ignore")  # what silence_lightning keeps from users

JOBS = ["-m", *TINY, "trainer.max_epochs=1", "model.depth=8,9", "sweep=two", "outputs=."]
MESSAGE = "depth=9: must be 6n+2; the nearest are 8 and 14"


def names(tmp_path):
    return sorted(path.name for path in (tmp_path / "sweeps/two").iterdir() if path.is_dir())


def test_a_table_and_a_line_name_what_has_failed(command, tmp_path):
    ended = command("train", *JOBS)
    whole, failed = names(tmp_path)
    assert ended.status == 1
    assert ended.stderr.splitlines() == [f"{failed}: {MESSAGE}", f"1 of 2 jobs failed: {failed}"]
    table = ended.stdout[ended.stdout.index("best top-1 ") :]
    assert [word in ended.stdout for word in ("done", "failed")] == [True, True]
    assert "%" in table
    again = command("train", *JOBS)
    assert (again.status, again.stderr) == (ended.status, ended.stderr)
    assert names(tmp_path) == [whole, failed]


@pytest.mark.parametrize("key", ["compile", "trainer.precision", "data.workers", "logger"])
def test_a_sweep_whose_jobs_are_equal_is_refused(key):
    with pytest.raises(UserError, match=f"{key}=1,2: {key} changes no result, so that all of these would be the same"):
        refuse_equal_jobs(["-m", "conv=standard,bsconv_u", f"{key}=1,2", "data.root=here,there", "not grammar="])


@pytest.mark.slow
def test_jobs_in_processes_of_a_launcher(command, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    ended = command("train", *JOBS, "hydra/launcher=joblib", "hydra.launcher.n_jobs=1")
    _, failed = names(tmp_path)
    assert ended.status == 1
    assert ended.stderr.splitlines()[-1] == f"1 of 2 jobs failed: {failed}"
