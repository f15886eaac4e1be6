"""Loggers beside the metrics.csv that every run has: W&B and TensorBoard, one run for each run directory."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from efficientconv.compose import ReplacementReport
from efficientconv.errors import UserError
from efficientconv.runs.directory import RunDirectory, first_line


def wandb_logger(run: RunDirectory, project: str, group: str, entity: str | None, offline: bool) -> WandbLogger:
    """Build a W&B logger whose run goes on when the run directory is resumed.

    Args:
        run: the run directory, whose summary keeps the id that W&B knows the run by: every directory has its own.
        project: W&B project.
        group: W&B group, the sweep's name.
        entity: W&B user or team; ``None`` is the default one.
        offline: write to disk only, for ``wandb sync`` later.

    Raises:
        UserError: W&B does not let a run begin, for want of a login or of a network.
    """
    identity = run.read_summary().get("wandb_id") or secrets.token_hex(8)
    run.update_summary(wandb_id=identity)
    logger = WandbLogger(
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
    try:
        _ = logger.experiment
    except Exception as error:
        raise UserError(
            f"logger=wandb: {first_line(error)}; logger.wandb.offline=true needs neither login nor network"
        ) from error
    return logger


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
