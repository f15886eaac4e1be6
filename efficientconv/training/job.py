"""One job of the command line: a new run, a resumed one, or a sweep's job that may be done already."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from efficientconv.errors import UserError
from efficientconv.runs.directory import RunDirectory, flat
from efficientconv.runs.names import DEVICE_SETTINGS, split_override
from efficientconv.runs.safe_config import trust
from efficientconv.training.train import train

log = logging.getLogger(__name__)

MAY_CHANGE = ("max_epochs", *DEVICE_SETTINGS)
NOT_PART_OF_THE_RUN = ("outputs", "sweep", "run", "resume", "allow", "logger", "choices", "overrides")


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
    run = RunDirectory(directory)
    if config.resume and is_sweep:
        raise UserError("resume=true goes on with one run; a sweep goes on where its own command line is given again")
    if config.resume:
        return train(resumed_config(config, run, overrides), run, run.read_summary().get("overrides", []))
    if config.run is not None and not is_sweep and run.config_file.exists():
        raise UserError(f"{run.path} holds a run already; resume=true goes on with it")
    resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(resolved, dict)
    wanted = {str(key): value for key, value in resolved.items()} | {"choices": dict(choices)}
    if is_sweep and run.config_file.exists():
        refuse_other_run(run, wanted)
        summary = run.read_summary()
        if summary.get("status") == "done":
            log.info("%s is done already", run.path)
            return summary["best"].get("top1")
    return train(wanted, run, overrides)


def resumed_config(config: DictConfig, run: RunDirectory, overrides: Sequence[str]) -> dict[str, Any]:
    """Return the stored configuration, with the device settings and ``max_epochs`` of the command line.

    Raises:
        UserError: no run, an override that resuming does not take, fewer epochs than are done, or a stored target
            that is not trusted.
    """
    if config.run is None:
        raise UserError("resume=true needs the run directory: run=outputs/runs/<data>/<model>-<conv>/<time>")
    stored = trust(run.read_config(), list(config.allow), str(run.config_file))
    changeable = {f"trainer.{name}": name for name in MAY_CHANGE}
    for override in overrides:
        key, _ = split_override(override)
        if key in changeable:
            stored["trainer"][changeable[key]] = config.trainer[changeable[key]]
        elif key not in ("run", "resume", "allow"):
            raise UserError(
                f"{override}: a resumed run keeps its configuration; only {', '.join(changeable)} may change"
            )
    done = run.read_summary().get("epochs", 0)
    if stored["trainer"]["max_epochs"] < done:
        raise UserError(f"trainer.max_epochs={stored['trainer']['max_epochs']}: {done} epochs of this run are done")
    return stored


def refuse_other_run(run: RunDirectory, wanted: Mapping[str, Any]) -> None:
    """Refuse to go on in the directory of a run with another configuration.

    Raises:
        UserError: names the first key that differs, with both values.
    """
    stored = flat(run.read_config())
    asked = flat(wanted)
    for key in sorted(stored.keys() | asked.keys()):
        group, _, name = key.partition(".")
        if group in NOT_PART_OF_THE_RUN or (group == "trainer" and name in DEVICE_SETTINGS):
            continue
        if stored.get(key) != asked.get(key):
            raise UserError(
                f"{run.path} holds a run with another configuration ({key} was {stored.get(key)!r} and is now "
                f"{asked.get(key)!r}); choose another sweep= or remove the directory"
            )
