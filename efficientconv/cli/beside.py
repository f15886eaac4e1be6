"""A job of a sweep that runs beside others: its own GPU, and lines that tell it from the others."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from efficientconv.console import SHARED
from efficientconv.errors import Interrupted
from efficientconv.runs.directory import RunDirectory
from efficientconv.sweeps.devices import take_gpu
from efficientconv.sweeps.outcomes import Outcomes

log = logging.getLogger(__name__)


@contextmanager
def beside_others(config: DictConfig, outcomes: Outcomes) -> Iterator[None]:
    """Give the job its own GPU where ``launcher.jobs_per_gpu`` is set; send its tables to its log, its lines to all.

    An interrupted job ends here: the sweep's own process knows what a signal means for the sweep. Each line on the
    screen begins with what tells the job from the others; there is one for each epoch.
    """
    run = RunDirectory(HydraConfig.get().runtime.output_dir)
    on_screen = [handler for handler in logging.getLogger().handlers if type(handler) is logging.StreamHandler]
    plain = [handler.formatter for handler in on_screen]
    label = outcomes.label(run.path.name).replace("%", "%%")
    for handler in on_screen:
        handler.setFormatter(logging.Formatter(f"{label}: %(message)s"))
    os.environ[SHARED] = "1"
    try:
        if "jobs_per_gpu" in config.launcher and config.trainer.accelerator != "cpu":
            gpu = take_gpu(outcomes.folder)
            if gpu is not None:
                log.info("on GPU %s", gpu)
        with run.log_file.open("a") as file, redirect_stdout(file):
            yield
    except Interrupted as interrupted:
        _end(interrupted)
    finally:
        for handler, formatter in zip(on_screen, plain, strict=True):
            handler.setFormatter(formatter)


def _end(interrupted: Interrupted) -> None:
    """End a job that has saved; if the signal was submitit's own, let submitit put it back into the queue."""
    log.info("interrupted (%s), saved", interrupted)
    if interrupted.signum == signal.SIGUSR2:
        os.kill(os.getpid(), signal.SIGUSR2)  # submitit's handler is in its place again
