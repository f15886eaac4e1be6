"""Loggers beside the metrics.csv that every run has: W&B and TensorBoard, one run for each run directory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any

from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from efficientconv.compose import ReplacementReport
from efficientconv.errors import Interrupted, UserError
from efficientconv.runs.directory import RunDirectory
from efficientconv.training.checkpoints import steps_done
from efficientconv.training.loggers.wandb_run import WandbRun


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


def tensorboard_logger(run: RunDirectory) -> TensorBoardLogger:
    """Build a TensorBoard logger that writes into the run directory.

    Where the run goes on, TensorBoard drops the steps behind the checkpoint, which are taken again.
    """
    if find_spec("tensorboard") is None and find_spec("tensorboardX") is None:
        raise UserError('logger=tensorboard: TensorBoard is not installed; pip install "efficientconv[tensorboard]"')
    is_begun = (run.path / "tensorboard").is_dir()
    return TensorBoardLogger(
        save_dir=run.path,
        name="",
        version="tensorboard",
        default_hp_metric=False,
        purge_step=steps_done(run) + 1 if is_begun else None,
    )


def describe(loggers: Sequence[Logger], config: Mapping[str, Any], report: ReplacementReport) -> None:
    """Give every logger the configuration, and W&B the counts and the replacement report as a table."""
    for logger in loggers:
        logger.log_hyperparams(dict(config))
        if isinstance(logger, WandbRun):
            logger.summarize({"params": report.params_after, "macs": report.macs_after})
            rows = [_cells(row) for row in report.to_dict()["replaced"]]
            if rows:
                columns, data = list(rows[0]), [list(row.values()) for row in rows]
                logger.at_the_end(partial(logger.log_table, "replaced", columns, data, step=0))


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
            logger.log_hyperparams(dict(config), {"best/top1": summary["best"]["top1"]}, step=summary["epochs"])
        logger.finalize("success" if is_done else "failed")
        if isinstance(logger, WandbRun):
            logger.close(summary)


def sync_lines(loggers: Sequence[Logger]) -> list[str]:
    """Return the commands that upload what the loggers have written to disk alone."""
    return [line for logger in loggers if isinstance(logger, WandbRun) and (line := logger.sync_line())]
