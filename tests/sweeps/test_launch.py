"""What becomes of jobs between the first launch and the end: with an engine that writes what a job would."""

from concurrent.futures.process import BrokenProcessPool
from threading import Timer

import pytest
from filelock import FileLock

from efficientconv.errors import UserError
from efficientconv.runs.directory import RunDirectory
from efficientconv.sweeps import launch
from efficientconv.sweeps.jobs import Job
from efficientconv.sweeps.launch import TRIES, Rounds
from efficientconv.sweeps.outcomes import Outcomes


@pytest.fixture
def jobs(tmp_path):
    return [Job((f"seed={seed}",), RunDirectory(tmp_path / f"seed-{seed}")) for seed in range(3)]


@pytest.fixture
def outcomes(tmp_path, jobs):
    found = Outcomes(tmp_path / ".ended-1")
    found.open({job.name: " ".join(job.overrides) for job in jobs}, len(jobs))
    return found


class Engine:
    """Does with each job what ``does`` says of it, by the number of the round; else it is done."""

    def __init__(self, outcomes, does=None):
        self.outcomes, self.does, self.rounds, self.numbers = outcomes, does or {}, [], []

    def __call__(self, batch, first):
        self.rounds.append([overrides[0] for overrides in batch])
        self.numbers.append(first)
        for (word,) in batch:
            name = word.replace("=", "-")
            self.outcomes.begin(name)
            self.does.get((name, len(self.rounds)), self.done)(name)

    def done(self, name):
        RunDirectory(self.outcomes.folder.parent / name).update_summary(status="done")
        self.outcomes.end(name)

    def failed(self, name):
        RunDirectory(self.outcomes.folder.parent / name).update_summary(status="failed", error="too large")
        self.outcomes.end(name, "too large")

    def interrupted(self, name):
        RunDirectory(self.outcomes.folder.parent / name).update_summary(status="interrupted")
        self.outcomes.forget(name)

    def killed(self, name):
        RunDirectory(self.outcomes.folder.parent / name).update_summary(status="running")
        raise BrokenProcessPool


def test_a_failed_job_stops_no_other_and_an_interrupted_one_goes_on(jobs, outcomes):
    engine = Engine(outcomes)
    engine.does = {("seed-0", 1): engine.failed, ("seed-1", 1): engine.interrupted}
    Rounds(engine, outcomes, 5).run(jobs)
    assert engine.rounds == [["seed=0", "seed=1", "seed=2"], ["seed=1"]]
    assert engine.numbers == [5, 8]
    assert [job.status for job in jobs] == ["failed", "done", "done"]
    assert outcomes.errors() == {"seed-0": "too large"}


def test_what_a_killed_process_leaves_is_launched_again(jobs, outcomes, caplog):
    engine = Engine(outcomes)
    engine.does = {("seed-1", 1): engine.killed}
    Rounds(engine, outcomes, 0).run(jobs)
    assert engine.rounds == [["seed=0", "seed=1", "seed=2"], ["seed=1", "seed=2"]]
    assert [job.status for job in jobs] == ["done"] * 3
    assert "a process was killed (BrokenProcessPool); its jobs go on from their checkpoints" in caplog.text


def test_a_job_that_is_killed_again_and_again_has_failed(jobs, outcomes):
    engine = Engine(outcomes)
    engine.does = {("seed-0", number): engine.killed for number in range(1, 9)}
    Rounds(engine, outcomes, 0).run(jobs)
    assert len(engine.rounds) == TRIES + 1
    assert outcomes.errors() == {"seed-0": "its process was killed 3 times; there may be too little memory"}
    assert [job.status for job in jobs[1:]] == ["done", "done"]


def test_another_error_of_an_engine_ends_the_sweep(jobs, outcomes):
    def refuse(batch, first):
        raise ValueError("no such partition")

    with pytest.raises(ValueError, match="no such partition"):
        Rounds(refuse, outcomes, 0).run(jobs)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Traceback\nModuleNotFoundError: No module named 'mine'\n", "ModuleNotFoundError: No module named 'mine'"),
        ("", "BrokenProcessPool"),
    ],
)
def test_an_engine_whose_processes_die_before_any_job_begins_is_not_asked_again(jobs, outcomes, text, reason):
    def die(batch, first):
        raise BrokenProcessPool(text)

    with pytest.raises(UserError, match=f"^no job could begin: {reason}$"):
        Rounds(die, outcomes, 0).run(jobs)


def test_jobs_that_leave_no_trace_are_not_launched_for_ever(jobs, outcomes):
    with pytest.raises(UserError, match=r": no job has begun here; every machine must see this folder$"):
        Rounds(lambda batch, first: None, outcomes, 0).run(jobs)


@pytest.mark.parametrize(("left", "rounds"), [("done", []), ("failed", []), ("running", [["seed=0"]])])
def test_what_another_process_works_at_is_waited_for_and_taken_over_if_it_dies(
    jobs, outcomes, caplog, monkeypatch, left, rounds
):
    monkeypatch.setattr(launch, "POLL_SECONDS", 0.01)
    caplog.set_level("INFO")
    engine, other = Engine(outcomes), RunDirectory(jobs[0].run.path)
    other.path.mkdir()
    lock = FileLock(other.path / ".lock", thread_local=False)
    lock.acquire()

    def end():
        other.update_summary(status=left, error="too large" if left == "failed" else None)
        lock.release()

    timer = Timer(0.3, end)
    timer.start()
    Rounds(engine, outcomes, 0).run(jobs[:1])
    timer.join()
    assert engine.rounds == rounds
    assert "waiting for what other processes work at: seed=0" in caplog.text
    assert outcomes.errors() == ({"seed-0": "too large"} if left == "failed" else {})
