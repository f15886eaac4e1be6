"""The engines that start a sweep's jobs: Hydra's launchers, and what has to be there before they are asked to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from importlib.util import find_spec
from pkgutil import resolve_name
from typing import Any, cast

from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from efficientconv.errors import UserError, first_line, require_whole
from efficientconv.processes import cpu_cores, python_path
from efficientconv.sweeps.devices import visible_gpus

IN_PROCESS = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
EXTRAS = {
    "hydra_joblib_launcher": "joblib",
    "hydra_submitit_launcher": "submitit",
    "hydra_ray_launcher": "ray",
    "hydra_optuna_sweeper": "optuna",
}
OWN_KEYS = ("_target_", "jobs_per_gpu")
AUTO = "auto"

Launch = Callable[[Sequence[Sequence[str]], int], object]


def is_in_process(config: DictConfig) -> bool:
    """Tell whether the jobs of a sweep run one after the other in its own process."""
    return config.launcher._target_ == IN_PROCESS


def require_installed(group: str, choice: str, plugin: str) -> None:
    """Refuse a launcher or a sweeper whose package is not there.

    Args:
        group: ``launcher`` or ``sweeper``.
        choice: its option.
        plugin: its module in ``hydra_plugins``.

    Raises:
        UserError: names the extra to install.
    """
    if plugin in EXTRAS and find_spec(f"hydra_plugins.{plugin}") is None:
        raise UserError(
            f'{group}={choice}: its package is not installed; pip install "efficientconv[{EXTRAS[plugin]}]" brings it'
        )


def open_engine(config: DictConfig, **given: Any) -> Launch:
    """Return what launches jobs: their overrides, and the number of the first.

    Args:
        config: of the sweep.
        given: what Hydra gives to a launcher besides.

    Raises:
        UserError: the engine is not installed, or what it needs is not there.
    """
    values = cast("dict[str, Any]", OmegaConf.to_container(config.launcher, resolve=True))
    target, choice = values["_target_"], config.hydra.runtime.choices.launcher
    plugin = target.split(".")[1]
    require_installed("launcher", choice, plugin)
    if target.endswith(".SlurmLauncher") and shutil.which("sbatch") is None:
        raise UserError(
            f"launcher={choice}: there is no sbatch here; give the line on a machine that submits to SLURM, or choose "
            "launcher=joblib for jobs side by side on this one"
        )
    at_once = jobs_at_once(config, values) if "n_jobs" in values else None
    arguments = {key: value for key, value in values.items() if key not in OWN_KEYS}
    if plugin == "hydra_joblib_launcher":
        arguments["n_jobs"] = at_once
    else:
        arguments.pop("n_jobs", None)
    if target != IN_PROCESS:
        os.environ["PYTHONPATH"] = python_path()
    engine: Launcher = resolve_name(target)(**cast("dict[str, Any]", OmegaConf.create(arguments)))
    engine.setup(config=config, **given)
    if plugin == "hydra_ray_launcher":
        return _on_ray(engine, values["ray"]["init"].get("address"))
    if plugin == "hydra_submitit_launcher" and at_once:
        return _in_batches(engine, at_once)
    return engine.launch


def jobs_at_once(config: DictConfig, values: dict[str, Any]) -> int:
    """Return how many jobs run side by side: as ``launcher.n_jobs`` says, or as there are GPUs or CPU cores.

    Raises:
        UserError: no number of jobs, more than the GPUs take, or a job would take several GPUs.
    """
    shared = values.get("jobs_per_gpu", 1)
    require_whole("launcher.jobs_per_gpu", shared, least=1)
    gpus = len(visible_gpus()) if config.trainer.accelerator != "cpu" and "jobs_per_gpu" in values else 0
    most = gpus * shared or cpu_cores()
    if gpus and config.trainer.devices not in (1, "auto"):
        raise UserError(
            f"trainer.devices={config.trainer.devices}: launcher=joblib gives each job one GPU; "
            "launcher=local trains one job after the other on all of them"
        )
    if values["n_jobs"] == AUTO:
        return most
    require_whole("launcher.n_jobs", values["n_jobs"], least=1)
    if gpus and values["n_jobs"] > most:
        needed = -(-values["n_jobs"] // gpus)
        raise UserError(
            f"launcher.n_jobs={values['n_jobs']}: there are {gpus} GPUs, and launcher.jobs_per_gpu={shared}; "
            f"launcher.jobs_per_gpu={needed} lets so many jobs share each"
        )
    return values["n_jobs"]


def _in_batches(engine: Launcher, size: int) -> Launch:
    """Let an engine that starts all jobs at once start so many at a time."""

    def launch(jobs: Sequence[Sequence[str]], first: int) -> None:
        for start in range(0, len(jobs), size):
            engine.launch(jobs[start : start + size], first + start)

    return launch


def _on_ray(engine: Launcher, address: str | None) -> Launch:
    """Say in one line what is wrong where Ray's cluster cannot be reached."""

    def launch(jobs: Sequence[Sequence[str]], first: int) -> None:
        try:
            engine.launch(jobs, first)
        except (ConnectionError, TimeoutError) as error:
            reason = first_line(error).partition(". ")[0]
            raise UserError(
                f"launcher.ray.init.address={address}: no Ray cluster answers there ({reason}); "
                "`ray start --head` begins one, and launcher.ray.init.address=null one for this sweep alone"
            ) from error

    return launch


def is_death(error: Exception) -> bool:
    """Tell whether an engine says that the process of a job was killed."""
    module = type(error).__module__
    return isinstance(error, BrokenExecutor) or module.startswith(("submitit.", "ray.exceptions"))
