"""What Hydra finds of this project: a launcher for what is left of a sweep, and the sweepers that ``sweeper=`` names.

Hydra takes launchers and sweepers from the namespace ``hydra_plugins`` alone, and imports every module of it whenever
it starts: here are the classes, and what they do is in `efficientconv.sweeps`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class WhatIsLeft(Launcher):
    """Skips the jobs that are done, and hands the others to the engine that ``launcher=`` names, until all are."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what an engine needs."""
        self.given: dict[str, Any] = {
            "hydra_context": hydra_context,
            "task_function": task_function,
            "config": config,
        }

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Bring a batch of jobs to their end; return what each has reached, in the order of the batch."""
        from efficientconv.sweeps.launch import launch

        return launch(job_overrides, initial_job_idx, **self.given)


class Grid(BasicSweeper):
    """Hydra's own sweeper; the launcher composes each job before it starts any, so that this one need not do so."""

    def __init__(self) -> None:
        super().__init__(max_batch_size=None)

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Leave it to the launcher, which need not compose what is done."""


class Search(Sweeper):
    """Optuna's sweeper, with a study in the sweep's directory that goes on where the line is run again."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Open the study."""
        from efficientconv.sweeps.search import open_search

        self.search = open_search(config)
        self.search.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> Any:
        """Search on until the study has all its trials."""
        return self.search.sweep(arguments)
