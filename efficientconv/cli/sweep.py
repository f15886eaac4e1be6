"""A sweep's beginning, where equal jobs are refused, and its end: a table of its jobs and an exit code."""

from __future__ import annotations

import json
import secrets
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import OverrideParseException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from efficientconv.cli.ending import wants_traceback
from efficientconv.errors import UserError
from efficientconv.runs.directory import RunDirectory
from efficientconv.runs.same_result import gives_same_result


def refuse_equal_jobs(words: Sequence[str]) -> None:
    """Refuse a sweep over a setting that changes no result: its values would share one job, and one directory.

    Args:
        words: the command line.

    Raises:
        UserError: names the setting.
    """
    parser = OverridesParser.create()
    for word in words:
        if "=" not in word or word.startswith("-"):
            continue
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
    """Hydra's callback that closes a sweep, whichever launcher runs its jobs.

    A job may run in another process, where a launcher has made a copy of this object. So each leaves a file in a folder
    beside the jobs' directories, and the sweep's own process reads them all.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Choose the folder, of a name that another process with the same sweep does not choose."""
        self.folder = Path(config.hydra.sweep.dir).resolve() / f".ended-{secrets.token_hex(4)}"

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Write down whether the job has failed; the sweep goes on with the next one all the same."""
        if self.folder is None:
            return  # a single run
        failed = job_return.status == JobStatus.FAILED
        self.folder.mkdir(parents=True, exist_ok=True)
        ended = {"number": config.hydra.job.num, "path": config.hydra.runtime.output_dir, "failed": failed}
        (self.folder / f"{config.hydra.job.num}.json").write_text(json.dumps(ended))
        if failed and not wants_traceback():
            job_return.return_value, job_return.status = None, JobStatus.COMPLETED

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table, and end the process with status 1 where a job has failed."""
        if self.folder is None or not self.folder.is_dir():
            return
        jobs = sorted((json.loads(file.read_text()) for file in self.folder.iterdir()), key=lambda job: job["number"])
        shutil.rmtree(self.folder)
        rows = [_row(job) for job in jobs]
        _print(rows)
        _report(self.folder.parent)
        failed = [name for name, status, _ in rows if status == "failed"]
        if failed:
            print(f"{len(failed)} of {len(jobs)} jobs failed: {', '.join(failed)}", file=sys.stderr)
            raise SystemExit(1)


def _report(folder: Path) -> None:
    from efficientconv.report.closing import print_report  # SciPy: not before a sweep has ended

    print_report(folder)


def _row(job: dict[str, Any]) -> tuple[str, str, float | None]:
    """Return a job's name, how it stands, and its best top-1 accuracy."""
    run = RunDirectory(job["path"])
    try:
        summary = run.read_summary()
    except UserError:  # damaged
        summary = {}
    status = "failed" if job["failed"] else summary.get("status", "not begun")
    return run.path.name, status, (summary.get("best") or {}).get("top1")


def _print(rows: list[tuple[str, str, float | None]]) -> None:
    from rich.table import Table

    from efficientconv.console import console

    table = Table("job", "status", "best top-1", title="sweep", title_justify="left", title_style="bold")
    for name, status, top1 in rows:
        table.add_row(name, status, "" if top1 is None else f"{top1:.2%}")
    console().print(table)
