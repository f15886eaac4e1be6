"""A batch of jobs brought to its end: what is done is skipped, the rest launched, again where a process was killed.

Two processes that were given the same sweep share its jobs: a job belongs to whoever holds the lock of its directory.
What another process works at is waited for, and taken over if that process dies.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, configure_log
from hydra.types import HydraContext
from omegaconf import DictConfig

from efficientconv.errors import UserError
from efficientconv.processes import started_outside
from efficientconv.sweeps.engines import Launch, is_death, is_in_process, open_engine
from efficientconv.sweeps.jobs import Job, SweepDirectory, labels, mark_of
from efficientconv.sweeps.outcomes import PREFIX, Outcomes
from efficientconv.sweeps.stopping import jobs_stopped_by_signals

log = logging.getLogger(__name__)

TRIES = 3  # of a job whose process is killed
POLL_SECONDS = 0.5
MOST_NAMES = 5  # in a line


def launch(
    batch: Sequence[Sequence[str]], first: int, hydra_context: HydraContext, config: DictConfig, **given: Any
) -> list[JobReturn]:
    """Bring a batch of jobs to its end.

    Args:
        batch: the overrides of each job.
        first: the number of the first one.
        hydra_context: Hydra's own.
        config: of the sweep.
        given: what Hydra gives to a launcher besides.

    Returns:
        The best top-1 accuracy of each job; ``None`` for one that has failed.

    Raises:
        UserError: what the launcher needs is not there.
        HydraException: a job does not compose.
        Interrupted: a signal came.
    """
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    loader = hydra_context.config_loader
    directory = SweepDirectory(Path(config.hydra.sweep.dir).resolve())
    jobs, left = directory.jobs(batch, lambda words: loader.load_sweep_config(config, words), mark_of(loader))
    outcomes = Outcomes(directory.path / f"{PREFIX}{config.hydra.callbacks.closing_table.token}")
    outcomes.open(labels(jobs, list(config.hydra.overrides.task)), len(left))
    if len(left) < len(jobs):
        log.info("%d of %d jobs are done already", len(jobs) - len(left), len(jobs))
    _warn_of_differences([job for job in jobs if job not in left])
    if left:
        log.info("launching %d jobs (launcher=%s)%s", len(left), config.hydra.runtime.choices.launcher, _where(config))
        try:
            engine = open_engine(config, hydra_context=hydra_context, **given)
            with nullcontext() if is_in_process(config) else jobs_stopped_by_signals(outcomes):
                Rounds(engine, outcomes, first).run(left)
        except BaseException:
            outcomes.close()
            raise
    return [_returned(job) for job in jobs]


def _where(config: DictConfig) -> str:
    """Say where to look for the lines of jobs, where that is not the screen."""
    folder = config.launcher.get("submitit_folder")
    if folder is None:
        return ""
    return f"; their lines are in {Path(folder).parent}, and efficientconv sweep status {config.sweep} sums them up"


def _warn_of_differences(done: Sequence[Job]) -> None:
    """Say that jobs are done, but not as they would be done now."""
    differing = [job for job in done if job.difference]
    if differing:
        log.warning(
            "%d of them were trained otherwise (%s: %s); to train them as they are now, choose another sweep=",
            len(differing),
            differing[0].name,
            differing[0].difference,
        )


class Rounds:
    """Launches jobs until each has come to its end.

    Args:
        engine: launches jobs, and returns when they have ended.
        outcomes: how they have ended.
        first: the number of the first one.
    """

    def __init__(self, engine: Launch, outcomes: Outcomes, first: int) -> None:
        self.engine, self.outcomes, self.number = engine, outcomes, first
        self.waited_for: list[str] = []

    def run(self, jobs: Sequence[Job]) -> None:
        """Launch jobs, those that are left of them again, and wait for what other processes work at.

        The processes that torchrun or srun has started go through the jobs together, and through each once.
        """
        if started_outside():
            self._launch(jobs)
            return
        left = list(jobs)
        while left:
            free = [job for job in left if not job.run.is_busy()]
            self._launch([job for job in free if not self._is_settled(job)])
            left = [job for job in left if job.run.is_busy() or not self._is_settled(job)]
            self._wait(left)

    def _launch(self, jobs: Sequence[Job]) -> None:
        if not jobs:
            return
        begun = self._times_begun(jobs)
        for job in jobs:
            self.outcomes.forget(job.name)
        try:
            self.engine([job.overrides for job in jobs], self.number)
        except Exception as error:
            if not is_death(error):
                raise
            if self._times_begun(jobs) == begun:  # none of them came so far
                reason = str(error).strip() or type(error).__name__
                raise UserError(f"no job could begin: {reason.splitlines()[-1]}") from error
            log.warning("a process was killed (%s); its jobs go on from their checkpoints", type(error).__name__)
        self.number += len(jobs)
        if self._times_begun(jobs) == begun:
            raise UserError(f"{self.outcomes.folder.parent}: no job has begun here; every machine must see this folder")

    def _times_begun(self, jobs: Sequence[Job]) -> int:
        return sum(self.outcomes.times_begun(job.name) for job in jobs)

    def _is_settled(self, job: Job) -> bool:
        """Tell whether a job that nobody works at is done or has failed; one whose process was killed goes on."""
        if job.status == "done" or self.outcomes.has_failed(job.name):
            return True
        if job.name in self.waited_for and job.status == "failed":  # of the process that was waited for
            self.outcomes.end(job.name, str(job.summary.get("error")))
            return True
        if self.outcomes.times_begun(job.name) < TRIES:
            return False
        reason = f"its process was killed {TRIES} times; there may be too little memory"
        log.error("%s: %s", job.name, reason)
        self.outcomes.end(job.name, reason)
        return True

    def _wait(self, left: Sequence[Job]) -> None:
        """Wait until one of the jobs is free, if another process works at each of them."""
        names = [job.name for job in left]
        if left and names != self.waited_for and all(job.run.is_busy() for job in left):
            told = [self.outcomes.label(name) for name in names]
            log.info("waiting for what other processes work at: %s", ", ".join(told[:MOST_NAMES]))
        self.waited_for = names
        while left and all(job.run.is_busy() for job in left):
            time.sleep(POLL_SECONDS)


def _returned(job: Job) -> JobReturn:
    returned = JobReturn(overrides=list(job.overrides), status=JobStatus.COMPLETED)
    returned.return_value = job.top1 if job.status == "done" else None
    return returned
