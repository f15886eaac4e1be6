"""Loggers beside the metrics.csv that every run has: W&B and TensorBoard, one run for each run directory."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from efficientconv.compose import ReplacementReport
from efficientconv.errors import Interrupted, UserError
from efficientconv.runs.directory import RunDirectory, first_line, flat

SUMMARY = ("status", "epochs", "best", "last", "test")  # of summary.json, for W&B's table of runs


@contextmanager
def open_loggers(config: Mapping[str, Any], run: RunDirectory, report: ReplacementReport) -> Iterator[Sequence[Logger]]:
    """Build the loggers that ``logger=`` names, on the first rank only, and end their runs as the block ends.

    Args:
        config: the resolved configuration.
        run: the run directory, whose summary says what was reached.
        report: what was replaced.
    """
    loggers: list[Logger] = []
    status = "failed"
    try:
        for node in config["logger"].values() if run.writable else ():
            loggers.append(instantiate(node, _convert_="all")(run))
        describe(loggers, config, report)
        yield loggers
        status = "done"
    except Interrupted:
        status = "interrupted"
        raise
    finally:
        finish(loggers, config, run.read_summary() | {"status": status})


def wandb_logger(run: RunDirectory, project: str, group: str | None, entity: str | None, offline: bool) -> WandbLogger:
    """Build a W&B logger whose run goes on when the run directory is resumed.

    Args:
        run: the run directory, whose summary keeps the id that W&B knows the run by: every directory has its own.
        project: W&B project.
        group: W&B group; ``None`` is the sweep's name for a job of a sweep, and no group for a single run.
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
        group=group or run.sweep,
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
    if find_spec("tensorboard") is None and find_spec("tensorboardX") is None:
        raise UserError('logger=tensorboard: TensorBoard is not installed; pip install "efficientconv[tensorboard]"')
    return TensorBoardLogger(save_dir=run.path, name="", version="tensorboard", default_hp_metric=False)


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


def finish(loggers: Sequence[Logger], config: Mapping[str, Any], summary: Mapping[str, Any]) -> None:
    """End every logger's run, so that the next job of a multirun begins its own.

    W&B's table of runs gets the status and the accuracies, and TensorBoard's the configuration beside the best top-1.

    Args:
        loggers: those of the job.
        config: its resolved configuration.
        summary: the content of its summary.json.
    """
    is_done = summary["status"] == "done"
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger) and is_done and summary.get("best"):
            logger.log_hyperparams(dict(config), {"best/top1": summary["best"]["top1"]})
        if isinstance(logger, WandbLogger):
            logger.experiment.summary.update(_flat({name: summary.get(name) for name in SUMMARY}))
        logger.finalize("success" if is_done else "failed")
        if isinstance(logger, WandbLogger):
            logger.experiment.finish(exit_code=0 if is_done else 1)


def _flat(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Write ``{"best": {"top1": 0.9}}`` as ``{"best/top1": 0.9}``, without what there is not."""
    return {key.replace(".", "/"): value for key, value in flat(summary).items() if value is not None}
