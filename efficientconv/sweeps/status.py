"""``efficientconv sweep status``: how far a sweep is, as the directories of its jobs say; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efficientconv.console import in_words
from efficientconv.errors import UserError
from efficientconv.runs.directory import RunDirectory
from efficientconv.sweeps.jobs import Job, SweepDirectory, find_sweep, labels

STATES = ("done", "running", "interrupted", "failed", "left")


@dataclass(frozen=True)
class Standing:
    """How a job stands.

    Attributes:
        job: which.
        state: one of `STATES`; ``left`` is not begun.
        epochs: that are done.
        of_epochs: that it has in all; 0 where it has not begun.
        seconds: that it has worked.
        rate: images/s in training, as last written.
    """

    job: Job
    state: str
    epochs: int = 0
    of_epochs: int = 0
    seconds: float = 0.0
    rate: float = 0.0

    @property
    def fraction(self) -> float:
        """Return how much of it is done, from 0 to 1."""
        return self.epochs / self.of_epochs if self.of_epochs else 0.0

    @classmethod
    def of(cls, job: Job) -> Standing:
        """Read it from the job's directory."""
        summary = job.summary
        if not summary:
            return cls(job, "left")
        state = summary.get("status", "left")
        if state == "running" and not job.run.is_busy():
            state = "interrupted"  # killed, so that nothing was written
        epochs, rows = int(summary.get("epochs", 0)), job.run.read_metrics() if state == "running" else []
        rate = float(rows[-1]["images_per_second"]) if rows else 0.0
        return cls(job, state, epochs, _all_epochs(job.run), float(summary.get("wall_seconds", 0.0)), rate)


def _all_epochs(run: RunDirectory) -> int:
    try:
        return int(run.read_config()["trainer"]["max_epochs"])
    except (UserError, KeyError, TypeError, ValueError):
        return 0


def run(config: Mapping[str, Any]) -> None:
    """Print how far a sweep is.

    Args:
        config: ``configs/sweep.yaml`` composed.

    Raises:
        UserError: no such action, or no such sweep.
    """
    if config["action"] != "status":
        raise UserError(f"efficientconv sweep {config['action']}: there is status alone")
    path = find_sweep(str(config["sweep"]), Path(str(config["outputs"])))
    standings = [Standing.of(job) for job in find_jobs(path)]
    if not standings:
        raise UserError(f"{path}: there is no job in it")
    print("\n".join(lines(path, standings)))


def find_jobs(path: Path) -> list[Job]:
    """Return the jobs of all command lines of a sweep; of one without ``jobs.json``, those that have begun."""
    known = SweepDirectory(path).known()
    names = {job.name for job in known}
    others = sorted(file.parent for file in path.glob("*/config.yaml") if file.parent.name not in names)
    return [*known, *(Job((), RunDirectory(folder)) for folder in others)]


def lines(path: Path, standings: Sequence[Standing]) -> list[str]:
    """Say how far a sweep is: a line for each state, for each running job, and for each that has failed."""
    of_state = {state: [each for each in standings if each.state == state] for state in STATES}
    told = [f"{path}: {len(standings)} jobs"]
    told += [f"  {state:11} {len(found):5}" for state, found in of_state.items() if found]
    running = of_state["running"]
    if running:
        left = time_left(standings)
        rate = sum(each.rate for each in running)
        told.append(f"{rate:,.0f} images/s" + (f", about {in_words(left)} left" if left is not None else ""))
    names = labels([each.job for each in standings])
    told += [f"running: {names[each.job.name]}: {each.epochs} of {each.of_epochs} epochs" for each in running]
    told += [f"failed: {each.job.run.path}: {each.job.summary.get('error')}" for each in of_state["failed"]]
    if not running and len(of_state["done"]) < len(standings):
        told.append("nothing runs; the sweep's command line goes on with it")
    return told


def time_left(standings: Sequence[Standing]) -> float | None:
    """Return the seconds until all jobs are done, if as many run side by side as now, each as long as those so far.

    Returns:
        None where nothing is known yet, or nothing runs.
    """
    running = sum(each.state == "running" for each in standings)
    done = sum(each.fraction for each in standings if each.seconds)
    if not (running and done):
        return None
    each_job = sum(each.seconds for each in standings if each.fraction) / done
    left = sum(1 - each.fraction for each in standings if each.state not in ("done", "failed"))
    return left * each_job / running
