"""One job of the command line: a new run, a resumed one, or a sweep's job that may be done already."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig

from efficientconv.errors import UserError
from efficientconv.processes import global_rank
from efficientconv.runs.directory import RunDirectory, RunIsBusyError
from efficientconv.runs.finished import figures, is_done, require_same_images, wanted
from efficientconv.training.resume import resumed_config
from efficientconv.training.train import train

log = logging.getLogger(__name__)


def train_job(
    config: DictConfig, directory: str, choices: Mapping[str, str], overrides: Sequence[str], is_sweep: bool
) -> float | None:
    """Train what the command line asks for; return the best top-1 accuracy, a fraction of 1.

    Args:
        config: the composed configuration.
        directory: where Hydra has put the job.
        choices: which option of each group was chosen.
        overrides: the command line.
        is_sweep: a multirun's job, which goes on from what its directory holds, and is skipped where it is done.

    Raises:
        UserError: see `train`; or the directory holds another run.
    """
    if not isinstance(config.resume, bool):
        raise UserError(f"resume={config.resume}: must be true or false")
    run = RunDirectory(directory, writable=global_rank() == 0)
    if config.resume and is_sweep:
        raise UserError("resume=true goes on with one run; a sweep goes on where its own command line is given again")
    if config.resume:
        return resume(config, run, overrides)
    if config.run is not None and not is_sweep and run.writable and run.config_file.exists():
        raise UserError(f"{run.path} holds a run already; resume=true goes on with it")
    asked = wanted(config, choices)
    return train_in_sweep(asked, run, overrides) if is_sweep else train(asked, run, overrides)


def resume(config: DictConfig, run: RunDirectory, overrides: Sequence[str]) -> float | None:
    """Go on with a run; a finished one is left as it is, unless ``trainer.max_epochs`` asks for more.

    Raises:
        UserError: see `resumed_config` and `train`.
    """
    if config.run is not None and run.config_file.exists():
        run.set_damaged_summary_aside()
    asked, stored = resumed_config(config, run, overrides), run.read_config()
    summary, epochs = run.read_summary(), asked["trainer"]["max_epochs"]
    require_same_images(run, stored, asked)
    if summary.get("status") == "done":
        if epochs <= stored["trainer"]["max_epochs"]:
            log.info("%s is finished: %s; trainer.max_epochs=<more> would go on", run.path, figures(summary))
            return summary["best"].get("top1")
        log.info("%s is finished (%s) and goes on to %d epochs", run.path, figures(summary), epochs)
    return train(asked, run, summary.get("overrides", []))


def train_in_sweep(asked: Mapping[str, Any], run: RunDirectory, overrides: Sequence[str]) -> float | None:
    """Train a sweep's job, or what is missing of it; return its best top-1 accuracy.

    Returns:
        That of a finished run at once. ``None`` where another process is at it, to which the job is left.

    Raises:
        UserError: see `train`; or the directory holds another run.
    """
    if is_done(run, asked):
        return _reached(run)
    try:
        with run.lock():
            if is_done(run, asked):  # by another process, just now
                return _reached(run)
            return train(asked, run, overrides)
    except RunIsBusyError as busy:
        log.info("%s; this job is left to it", busy)
        return None


def _reached(run: RunDirectory) -> float | None:
    """Say what a finished run has reached; return its best top-1 accuracy."""
    summary = run.read_summary()
    log.info("%s is done already: %s", run.path, figures(summary))
    return summary["best"].get("top1")
