"""A sweep's beginning, where equal jobs are refused, and its end: a table of its jobs and an exit code."""

from __future__ import annotations

import logging
import os
import secrets
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import OverrideParseException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict

from efficientconv.cli.ending import wants_traceback
from efficientconv.cli.words import quoted
from efficientconv.errors import UserError
from efficientconv.messages import one_line
from efficientconv.processes import global_rank
from efficientconv.runs.directory import RunDirectory
from efficientconv.runs.same_result import gives_same_result
from efficientconv.sweeps.jobs import Job
from efficientconv.sweeps.outcomes import PREFIX, Outcomes

log = logging.getLogger(__name__)

LONGEST_TABLE = 40  # jobs; of more, `efficientconv report` makes the better table
MOST_NAMES = 5


def refuse_equal_jobs(words: Sequence[str]) -> None:
    """Refuse a sweep over a setting that changes no result: its values would share one job, and one directory.

    Args:
        words: the command line.

    Raises:
        UserError: names the setting; or it is Hydra's own launcher or sweeper, which skips nothing.
    """
    parser = OverridesParser.create()
    for word in words:
        if "=" not in word or word.startswith("-"):
            continue
        if word.startswith(("hydra/launcher=", "hydra/sweeper=")):
            raise UserError(f"{word}: say {word.removeprefix('hydra/')}, which also skips the jobs that are done")
        try:
            (override,) = parser.parse_overrides([word])
        except OverrideParseException:
            continue  # Hydra says what is wrong with it
        if override.is_sweep_override() and gives_same_result(override.key_or_group, {}):
            raise UserError(
                f"{word}: {override.key_or_group} changes no result, so that all of these would be the same job; "
                "run the line once for each value, with a sweep=<name> of its own"
            )


class ClosingTable(Callback):
    """Hydra's callback around a sweep's jobs, whichever launcher runs them, and at its end.

    A job may run in another process, where a launcher has made a copy of this object. So each job leaves a file in a
    folder beside the jobs' directories, and the sweep's own process reads them all.

    Args:
        token: names the folder; chosen at the start of a sweep, so that no other start of it has the same.
    """

    def __init__(self, token: str | None = None) -> None:
        self.token = token

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Choose the folder, and tell the configuration of each job."""
        self.token = secrets.token_hex(4)
        with open_dict(config):
            config.hydra.callbacks.closing_table.token = self.token
            config.hydra.overrides.hydra.append(f"hydra.callbacks.closing_table.token='{self.token}'")
            if "ray" in config.launcher:  # whose workers have another current directory
                place = quoted(str(Path(config.hydra.sweep.dir).resolve()))
                config.hydra.overrides.hydra.append(f"hydra.sweep.dir={place}")

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Write down that the job runs here, and say so; relative paths are those of the command line."""
        outcomes, directory = outcomes_of(config), Path(config.hydra.runtime.output_dir)
        if outcomes is not None and not outcomes.is_here and Path(config.hydra.runtime.cwd).is_dir():
            os.chdir(config.hydra.runtime.cwd)
        if outcomes is not None and not outcomes.stopped:
            outcomes.begin(directory.name)
            log.info("%s: begins in %s", outcomes.label(directory.name), os.path.relpath(directory))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Write down how the job has ended, and say so; the sweep goes on with the next one all the same."""
        outcomes = outcomes_of(config)
        if outcomes is None:
            return  # a single run
        job = Job((), RunDirectory(config.hydra.runtime.output_dir))
        error = job_return._return_value if job_return.status == JobStatus.FAILED else None
        if error is not None and wants_traceback():
            traceback.print_exception(error)
        job_return.return_value, job_return.status = None, JobStatus.COMPLETED
        reason = one_line(error) if error is not None else None
        status, top1 = _standing(job, reason)
        if status != "done" and reason is None:  # stopped, or another process works at it
            outcomes.forget(job.name)
            return
        outcomes.end(job.name, reason)
        reached = f", best top-1 {top1:.2%}" if top1 is not None else ""
        log.info("%s: %s%s (%s)", outcomes.label(job.name), status, reached, outcomes.progress())

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table, and end the process with status 1 where a job has failed."""
        outcomes = outcomes_of(config)
        if outcomes is None:
            return
        labels, errors = outcomes.labels(), outcomes.errors()
        outcomes.close()
        if not labels:
            return  # a search that has all its trials
        if global_rank():
            raise SystemExit(1 if errors else 0)
        if len(labels) <= LONGEST_TABLE:
            jobs = [Job((), RunDirectory(Path(config.hydra.sweep.dir) / name)) for name in labels]
            _print([(labels[job.name], *_standing(job, errors.get(job.name))) for job in jobs])
        else:
            print(f"{len(labels) - len(errors)} of {len(labels)} jobs are done")
        _report(Path(config.hydra.sweep.dir))
        if errors:
            print(_failed(sorted(errors), len(labels), config.sweep), file=sys.stderr)
            raise SystemExit(1)


def outcomes_of(config: Any) -> Outcomes | None:
    """Return where the jobs of this sweep say how they have ended; None for a single run.

    Args:
        config: of a job or of the sweep, with ``hydra``.
    """
    token = OmegaConf.select(config, "hydra.callbacks.closing_table.token")
    return None if token is None else Outcomes(Path(config.hydra.sweep.dir).resolve() / f"{PREFIX}{token}")


def _report(folder: Path) -> None:
    from efficientconv.report.closing import print_report  # SciPy: not before a sweep has ended

    print_report(folder)


def _failed(names: list[str], jobs: int, sweep: str) -> str:
    """Name the jobs that have failed, as far as a line takes it."""
    more = f" and {len(names) - MOST_NAMES} more; efficientconv sweep status {sweep} tells each reason"
    told = ", ".join(names[:MOST_NAMES])
    return f"{len(names)} of {jobs} jobs failed: {told}{more if len(names) > MOST_NAMES else ''}"


def _standing(job: Job, error: str | None) -> tuple[str, float | None]:
    """Return how a job stands, and its best top-1 accuracy where it has not failed."""
    return (job.status or "not begun", job.top1) if error is None else (f"failed: {error}", None)


def _print(rows: list[tuple[str, str, float | None]]) -> None:
    from rich.table import Column, Table

    from efficientconv.console import console

    columns = [Column(name, overflow="fold") for name in ("job", "status", "best top-1")]
    table = Table(*columns, title="sweep", title_justify="left", title_style="bold")
    for name, status, top1 in rows:
        table.add_row(name, status, "" if top1 is None else f"{top1:.2%}")
    console().print(table)
