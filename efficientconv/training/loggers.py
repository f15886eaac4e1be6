"""Loggers beside the metrics.csv that every run has: W&B and TensorBoard, one run for each run directory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from efficientconv.compose import ReplacementReport
from efficientconv.training.run_directory import RunDirectory


def wandb_logger(run: RunDirectory, project: str, group: str, entity: str | None, offline: bool) -> WandbLogger:
    """Build a W&B logger whose run goes on when the run directory is resumed.

    Args:
        run: the run directory; its path gives the run its id, so that the jobs of a sweep never share a run.
        project: W&B project.
        group: W&B group, the sweep's name.
        entity: W&B user or team; ``None`` is the default one.
        offline: write to disk only, for ``wandb sync`` later.
    """
    identity = hashlib.sha1(str(run.path.resolve()).encode()).hexdigest()[:16]
    return WandbLogger(
        name="/".join(run.path.parts[-2:]),
        save_dir=run.path,
        version=identity,
        project=project,
        group=group,
        entity=entity,
        offline=offline,
        resume="allow",
        reinit="finish_previous",
    )


def tensorboard_logger(run: RunDirectory) -> TensorBoardLogger:
    """Build a TensorBoard logger that writes into the run directory."""
    return TensorBoardLogger(save_dir=run.path, name="", version="tensorboard")


def describe(loggers: Sequence[Logger], config: Mapping[str, Any], report: ReplacementReport) -> None:
    """Give every logger the configuration and the counts, and W&B the replacement report as a table."""
    counts = {"params": report.params_after, "macs": report.macs_after}
    for logger in loggers:
        logger.log_hyperparams(dict(config))
        if isinstance(logger, WandbLogger):
            logger.experiment.summary.update(counts)
            rows = [_cells(row) for row in report.to_dict()["replaced"]]
            if rows:
                logger.log_table("replaced", columns=list(rows[0]), data=[list(row.values()) for row in rows])


def _cells(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: ", ".join(map(str, value)) if isinstance(value, list) else value for key, value in row.items()}


def finish(loggers: Sequence[Logger], exit_code: int) -> None:
    """End every logger's run, so that the next job of a multirun begins its own.

    Args:
        loggers: those of the job.
        exit_code: 0 where the job ended well.
    """
    for logger in loggers:
        logger.finalize("success" if exit_code == 0 else "failed")
        if isinstance(logger, WandbLogger):
            logger.experiment.finish(exit_code=exit_code)
