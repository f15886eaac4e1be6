import sys

import pytest

from efficientconv import processes

TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
SRUN = {"SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2", "SLURM_PROCID": "5", "SLURM_JOB_ID": "4711"}
BATCH = {"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_JOB_ID": "4711"}  # the script of a job, outside srun
ONE_TASK = {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}  # a job that submitit has started


@pytest.fixture
def environment(monkeypatch):
    for name in {*TORCHRUN, *SRUN, *BATCH, "SLURM_STEP_ID", "SLURM_RESTART_COUNT"}:
        monkeypatch.delenv(name, raising=False)
    return lambda variables: [monkeypatch.setenv(*variable) for variable in variables.items()]


@pytest.mark.parametrize(
    ("variables", "rank", "devices_and_nodes"), [(TORCHRUN, 3, (2, 2)), (SRUN, 5, (4, 2))], ids=["torchrun", "srun"]
)
def test_started_outside(variables, rank, devices_and_nodes, environment):
    environment(variables)
    assert processes.started_outside()
    assert processes.global_rank() == rank
    assert processes.devices_and_nodes() == devices_and_nodes


@pytest.mark.parametrize("variables", [{}, BATCH, ONE_TASK], ids=["plain", "batch", "one task"])
def test_started_alone(variables, environment):
    environment(variables)
    assert not processes.started_outside()
    assert processes.global_rank() == 0
    assert processes.agreed("mine") == "mine"
    assert processes.is_first_to_fail()


def test_what_lies_here_is_imported_after_all_that_is_installed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    processes.import_from_here()
    processes.import_from_here()
    assert sys.path[-1] == str(tmp_path)
    assert sys.path.count(str(tmp_path)) == 1


def test_a_step_of_slurm_names_its_run_without_a_word_between_its_tasks(environment):
    environment(SRUN | {"SLURM_STEP_ID": "0", "SLURM_RESTART_COUNT": "1"})
    assert processes.agreed("mine") == "slurm-4711-0-1"


def test_processes_of_torchrun_agree_on_the_text_of_the_first(environment, monkeypatch):
    from torch.distributed import HashStore

    store = HashStore()
    monkeypatch.setattr("torch.distributed.rendezvous", lambda url, timeout: iter([(store, 0, 2)]))
    environment(TORCHRUN)
    assert [processes.agreed("first"), processes.agreed("second")] == ["first", "first"]
    assert processes.is_first_to_fail()
    environment({"RANK": "1"})
    assert not processes.is_first_to_fail()


def test_each_process_says_what_is_wrong_where_the_machine_that_all_meet_at_has_gone(environment, monkeypatch):
    from torch.distributed import DistNetworkError

    def refuse(url, timeout):
        raise DistNetworkError("The client socket has timed out")

    monkeypatch.setattr("torch.distributed.rendezvous", refuse)
    environment(TORCHRUN | {"RANK": "1"})
    assert processes.is_first_to_fail()
