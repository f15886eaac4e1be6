"""A W&B run for each run directory, whatever becomes of W&B: training neither waits for it nor fails with it.

A server that cannot be reached, hangs or answers with errors costs the start of a run some seconds, and its end a
minute at most; the run is written to disk all the same, and ``wandb sync`` uploads it later. In between only numbers
are logged, which W&B's own process takes without waiting for the server; of tables and pictures that is not so, and
they come at the end. W&B's own variables say how long it may take: WANDB_INIT_TIMEOUT and WANDB_FINISH_TIMEOUT, in
seconds.
"""

from __future__ import annotations

import logging
import os
import secrets
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any, Literal

from lightning.pytorch.loggers import WandbLogger

from efficientconv.errors import UserError, first_line
from efficientconv.runs.directory import RunDirectory
from efficientconv.runs.dotted import flat
from efficientconv.training.loggers.logged_once import LoggedOnce
from efficientconv.training.loggers.wandb_words import run_name, run_tags

log = logging.getLogger(__name__)

PATIENCE = {"init_timeout": 15, "finish_timeout": 25}
"""Seconds that W&B may take to begin a run, to be given what comes at its end, and to upload the rest."""

ASK_AGAIN_AFTER = 600
"""Seconds for which a server that did not answer is left alone: the next jobs of a sweep do not wait for it."""

SUMMARY = ("status", "epochs", "best", "last", "test")  # of summary.json, for W&B's table of runs
RUN_FILES = ("config.yaml", "summary.json", "replaced.json")  # that make an artifact a run directory
SECONDS_TO_ANSWER = 3  # behind a timeout of W&B's own
LogModel = bool | Literal["best"]

_ask_again_at = 0.0


class WandbRun(WandbLogger):
    """Lightning's logger for W&B: no step twice, and no failure of W&B reaches the training.

    Args:
        experiment: W&B's run.
        run: the run directory.
        log_model: which checkpoints are uploaded when the run is done: ``best``, both (true), or none.
    """

    def __init__(self, experiment: Any, run: RunDirectory, log_model: LogModel) -> None:
        super().__init__(experiment=experiment, project=experiment.project, save_dir=run.path, version=experiment.id)
        self.run, self.log_checkpoints = run, log_model
        self.is_synced = not experiment.offline
        self.has_failed = False
        self.last_words: list[Callable[[], None]] = []
        self.logged = LoggedOnce(run.path / "wandb" / f"logged-{experiment.id}.json")

    @contextmanager
    def unharmed(self) -> Iterator[None]:
        """Keep what fails in W&B from the training; the first failure is told."""
        try:
            yield
        except Exception as error:
            self.is_synced = False
            if not self.has_failed:
                log.warning("W&B: %s; training goes on", first_line(error))
            self.has_failed = True

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log what was not logged at this step before the run was resumed."""
        with self.unharmed():
            if new := self.logged.new(metrics, step):
                super().log_metrics(new, step)

    def log_hyperparams(self, params: Any) -> None:
        """Log the configuration."""
        with self.unharmed():
            super().log_hyperparams(params)

    def summarize(self, values: Mapping[str, Any]) -> None:
        """Set figures of W&B's table of runs: ``{"best": {"top1": 0.9}}`` as ``best/top1``, without what is None."""
        told = {key.replace(".", "/"): value for key, value in flat(values).items() if value is not None}
        with self.unharmed():
            self.experiment.summary.update(told)

    def at_the_end(self, say: Callable[[], None]) -> None:
        """Let ``say`` log something once the run is done, when no training waits for it."""
        self.last_words.append(say)

    def close(self, summary: Mapping[str, Any]) -> None:
        """End W&B's run, or leave it to ``wandb sync`` where that takes too long.

        Args:
            summary: the content of summary.json, with the status that the run ends with.
        """
        is_done = summary["status"] == "done"
        self.summarize({name: summary.get(name) for name in SUMMARY})
        if is_done and self.log_checkpoints:
            self.at_the_end(lambda: self._upload_model(summary))
        try:
            if is_done:
                self._within_patience(self._say_last_words)
            self._within_patience(lambda: self.experiment.finish(exit_code=0 if is_done else 1))  # writes to disk too
        finally:
            if not self.is_synced and not self.experiment.offline:
                leave_behind()

    def _say_last_words(self) -> None:
        for say in self.last_words:
            with self.unharmed():
                say()

    def _within_patience(self, do: Callable[[], None]) -> None:
        """Do something in W&B, and go on without it where that takes too long: its own timeout does not always hold."""
        seconds = self.experiment.settings.finish_timeout

        def safely() -> None:
            with self.unharmed():
                do()

        doing = Thread(target=safely, daemon=True)
        doing.start()
        doing.join(timeout=seconds + SECONDS_TO_ANSWER)
        if doing.is_alive():
            if not self.has_failed:
                log.warning("W&B: did not take the end of the run within %g s", seconds + SECONDS_TO_ANSWER)
            self.is_synced, self.has_failed = False, True  # what the thread says from now on is no news

    def _upload_model(self, summary: Mapping[str, Any]) -> None:
        """Upload the checkpoints beside the run's files: ``eval.py run=<the artifact's folder>`` evaluates them."""
        import wandb

        names = ["best"] if self.log_checkpoints == "best" else ["last", "best"]
        files = [*(self.run.path / name for name in RUN_FILES), *map(self.run.checkpoint, names)]
        artifact = wandb.Artifact(f"model-{self.experiment.id}", type="model", metadata=summary.get("best"))
        for file in filter(Path.is_file, files):
            artifact.add_file(str(file), name=file.relative_to(self.run.path).as_posix())
        self.experiment.log_artifact(artifact, aliases=["latest", *names])

    def sync_line(self) -> str | None:
        """Return the command that uploads what is not uploaded; None where all is."""
        offline = [path.parent for path in Path(self.run.path, "wandb").glob("offline-run-*/*.wandb") if _waits(path)]
        folders = sorted({*offline, *([] if self.is_synced else [Path(self.experiment.settings.sync_dir)])})
        return shlex.join(["wandb", "sync", *map(_as_given, folders)]) if folders else None


def leave_behind() -> None:
    """Let this process end without waiting for the one by which W&B talks to its server, and which ends then too."""
    import wandb

    global _ask_again_at
    _ask_again_at = time.monotonic() + ASK_AGAIN_AFTER
    connection = wandb.setup()._connection
    if connection is not None and connection._cleanup is not None:
        connection._cleanup()  # takes its hook from those that run at the end of this process


def start_anew() -> None:
    """Leave the process by which W&B talks to its server, which holds the id of a run that could not begin.

    It is killed where this process has started it; another one's, which W&B finds by a variable, is not used again.
    """
    import wandb

    connection = wandb.setup()._connection
    if connection is not None and connection._proc is not None:
        connection._proc._process.kill()
    with suppress(Exception, SystemExit):  # with which W&B passes on how its process has ended
        wandb.teardown()
    os.environ.pop("WANDB_SERVICE", None)


def _waits(file: Path) -> bool:
    """Tell whether a file of W&B's was not uploaded: it puts a mark beside those that were."""
    return not file.with_name(f"{file.name}.synced").exists()


def _as_given(folder: Path) -> str:
    path = folder.resolve()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def wandb_logger(
    run: RunDirectory,
    project: str,
    group: str | None,
    entity: str | None,
    offline: bool,
    job_type: str = "train",
    notes: str | None = None,
    log_model: LogModel = False,
) -> WandbRun:
    """Begin a W&B run, or go on with it where the run directory is resumed.

    Args:
        run: the run directory, whose summary keeps the id that W&B knows the run by: every directory has its own.
        project: W&B project.
        group: W&B group; ``None`` is the sweep's name for a job of a sweep, and no group for a single run.
        entity: W&B user or team; ``None`` is the default one.
        offline: write to disk only, for ``wandb sync`` later.
        job_type: what W&B groups runs by within a group.
        notes: a remark for the reader.
        log_model: see `WandbRun`.

    Raises:
        UserError: W&B does not let a run begin, for want of a login.
    """
    if log_model not in (True, False, "best"):
        raise UserError(f"logger.wandb.log_model={log_model}: must be true, best or false")
    config, summary = run.read_config(), run.read_summary()
    overrides = summary.get("overrides", [])
    identity = summary.get("wandb_id") or os.environ.get("WANDB_RUN_ID") or secrets.token_hex(8)  # of W&B's own agent
    run.update_summary(wandb_id=identity)
    wanted = {
        "project": project,
        "entity": entity,
        "dir": str(run.path),
        "id": identity,
        "name": run_name(config, overrides),
        "tags": run_tags(config, overrides),
        "group": group or run.sweep,
        "job_type": job_type,
        "notes": notes,
    }
    experiment = _begin(wanted, offline)
    experiment.define_metric("trainer/global_step")
    experiment.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    url = None if experiment.offline else experiment.url
    log.info("W&B: %s", url or f"offline, in {_as_given(Path(experiment.settings.sync_dir))}")
    run.update_summary(wandb_url=url)
    return WandbRun(experiment, run, log_model)


def _begin(wanted: Mapping[str, Any], offline: bool) -> Any:
    """Begin W&B's run, offline where that is asked for or its server does not answer."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # on W&B itself: its exit would wait for a hanging server
    import wandb

    global _ask_again_at
    try:
        if not offline and time.monotonic() >= _ask_again_at:
            try:
                return wandb.init(**wanted, resume="allow", reinit="finish_previous", settings=_settings(silent=False))
            except wandb.errors.CommError as error:
                log.warning("W&B: %s; the run goes on offline", first_line(error))
                _ask_again_at = time.monotonic() + ASK_AGAIN_AFTER
                start_anew()
        return wandb.init(**wanted, mode="offline", reinit="finish_previous", settings=_settings(silent=True))
    except Exception as error:
        raise UserError(
            f"logger=wandb: {first_line(error)}; logger.wandb.offline=true needs neither login nor network"
        ) from error


def _settings(silent: bool) -> Any:
    """Return W&B's settings: our patience where the user has not said theirs, and on the screen warnings at most."""
    import wandb

    patience: dict[str, Any] = {
        name: value for name, value in PATIENCE.items() if f"WANDB_{name.upper()}" not in os.environ
    }
    return wandb.Settings(**patience, finish_timeout_raises=True, quiet=True, show_info=False, silent=silent)
