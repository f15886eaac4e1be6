"""``train``: `hydra.main` around a training, once for a run, and for each job of a sweep wherever a launcher starts it.

A job finds everything in its configuration: it may run in another process, or on another machine, which has imported
this module and nothing else.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from efficientconv.cli.beside import beside_others
from efficientconv.cli.ending import require_not_interrupted, wants_traceback
from efficientconv.cli.flags import OF_TRAINING, require_flags, single_parser
from efficientconv.cli.help import help_of
from efficientconv.cli.single import composed
from efficientconv.cli.sweep import outcomes_of, refuse_equal_jobs
from efficientconv.cli.tools import TOOLS
from efficientconv.config_path import CONFIGS
from efficientconv.errors import Interrupted, UserError
from efficientconv.messages import one_line
from efficientconv.processes import global_rank, is_first_to_fail
from efficientconv.runs.directory import RunDirectory
from efficientconv.runs.names import register_resolvers
from efficientconv.sweeps.engines import is_in_process

register_resolvers()


def run_training(words: Sequence[str]) -> None:
    """Train what a command line says, or print the help of ``train``.

    Raises:
        UserError: a flag that is none, a sweep whose jobs are equal, or a place that cannot be written to.
        HydraException: the words do not compose.
        SystemExit: with status 1 where a run failed; its line is printed already.
    """
    require_flags(words, OF_TRAINING, "train")
    told, _ = single_parser().parse_known_intermixed_args(list(words))
    if told.help:
        with composed("train", [], told.config_dir) as config:
            print(help_of(TOOLS["train"], config), end="")
        return
    refuse_equal_jobs(words)
    sys.argv = ["efficientconv train", *TOOLS["train"].words(words)]  # where hydra.main reads them
    wants_traceback()  # before the next line makes Hydra raise its errors, instead of printing them in its own way
    os.environ["HYDRA_FULL_ERROR"] = "1"
    logging.raiseExceptions = False  # a log that cannot be written to must not bury the one line that says why
    try:
        hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="train")(train_job)()
    except HydraException:
        raise
    except (OSError, ValueError) as error:
        cause = error if isinstance(error, OSError) else error.__context__  # logging wraps what a log's file raises
        if not isinstance(cause, OSError):
            raise
        place = f"{cause.filename}: {cause.strerror}" if cause.filename else str(cause)
        raise UserError(f"{place}; outputs=<folder>, or run=<folder> for one run, says where runs go") from error


def train_job(config: DictConfig) -> float | None:
    """Train one run; return its best top-1 accuracy, a fraction of 1.

    Raises:
        SystemExit: a single run failed or was interrupted, after one line on standard error.
        Exception: a sweep's job failed, after its line.
        Interrupted: a sweep was interrupted, after the line of its job.
    """
    logging.raiseExceptions = False  # in the process of a launcher too
    hydra_config = HydraConfig.get()
    directory, is_sweep = Path(hydra_config.runtime.output_dir), hydra_config.mode == RunMode.MULTIRUN
    _leave_the_screen_to_one()
    outcomes = outcomes_of(HydraConfig.instance().cfg)
    if outcomes is not None and outcomes.stopped:
        return None
    try:
        with nullcontext() if outcomes is None or outcomes.is_here else beside_others(config, outcomes):
            return _train(config)
        return None  # interrupted, beside others
    except Interrupted as interrupted:
        with suppress(OSError):  # of a terminal that was closed, which is why SIGHUP came
            if global_rank() == 0:
                print(_ending(interrupted, directory, is_sweep), file=sys.stderr, flush=True)
        raise SystemExit(interrupted.exit_code) from None
    except Exception as error:
        _log_traceback(error)
        RunDirectory(directory, writable=global_rank() == 0).remove_if_empty(config.outputs)
        if wants_traceback():
            raise
        if is_first_to_fail():
            print(f"{directory.name}: {one_line(error)}" if is_sweep else one_line(error), file=sys.stderr)
        if is_sweep:
            raise
        raise SystemExit(1) from None


def _leave_the_screen_to_one() -> None:
    """Let one process of a run print."""
    if global_rank() == 0:
        return
    root = logging.getLogger()
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    for handler in [handler for handler in root.handlers if type(handler) is logging.StreamHandler]:
        root.removeHandler(handler)
    root.setLevel(logging.WARNING)


def _ending(interrupted: Interrupted, directory: Path, is_sweep: bool) -> str:
    """Return the line that ends an interrupted command: how to go on."""
    if is_sweep:
        return f"interrupted ({interrupted}) in {directory.name}; the same command line goes on with the sweep"
    return interrupted.line


def _train(config: DictConfig) -> float | None:
    hydra_config = HydraConfig.get()
    if hydra_config.mode != RunMode.MULTIRUN and not is_in_process(config):
        choice = hydra_config.runtime.choices["launcher"]
        raise UserError(f"launcher={choice}: one run needs none; -m makes a sweep of this line")
    from efficientconv.training.job import train_job

    require_not_interrupted()
    return train_job(
        config,
        directory=hydra_config.runtime.output_dir,
        choices=hydra_config.runtime.choices,
        overrides=list(hydra_config.overrides.task),
        is_sweep=hydra_config.mode == RunMode.MULTIRUN,
    )


def _log_traceback(error: Exception) -> None:
    """Write the traceback into train.log only: it would bury the one line that is for the user."""
    trace = "".join(traceback.format_exception(error))
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.emit(logging.makeLogRecord({"name": "efficientconv", "levelname": "ERROR", "msg": trace}))
