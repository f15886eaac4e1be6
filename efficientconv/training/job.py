"""One job of the command line: a new run, a resumed one, or a sweep's job that may be done already."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from efficientconv.errors import UserError
from efficientconv.processes import global_rank
from efficientconv.runs.directory import RunDirectory, RunIsBusyError
from efficientconv.runs.same_result import changes
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
    resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(resolved, dict)
    wanted = {str(key): value for key, value in resolved.items()} | {"choices": dict(choices)}
    return train_in_sweep(wanted, run, overrides) if is_sweep else train(wanted, run, overrides)


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


def train_in_sweep(wanted: Mapping[str, Any], run: RunDirectory, overrides: Sequence[str]) -> float | None:
    """Train a sweep's job, or what is missing of it; return its best top-1 accuracy.

    Returns:
        That of a finished run at once. ``None`` where another process is at it, to which the job is left.

    Raises:
        UserError: see `train`; or the directory holds another run.
    """
    if is_done(run, wanted):
        return run.read_summary()["best"].get("top1")
    try:
        with run.lock():
            if is_done(run, wanted):  # by another process, just now
                return run.read_summary()["best"].get("top1")
            return train(wanted, run, overrides)
    except RunIsBusyError as busy:
        log.info("%s; this job is left to it", busy)
        return None


def is_done(run: RunDirectory, wanted: Mapping[str, Any]) -> bool:
    """Tell whether a sweep's job is done, and say so; what is done stays done, whatever has changed since.

    Raises:
        UserError: the directory holds a run on other images, or an unfinished one with another configuration.
    """
    if not run.config_file.exists():
        return False
    run.set_damaged_summary_aside()
    stored, summary = run.read_config(), run.read_summary()
    require_same_images(run, stored, wanted)
    differing = [change for change in changes(stored, wanted) if change[0] != "data.root"]
    difference = "{} was {!r} and is now {!r}".format(*differing[0]) if differing else ""
    if summary.get("status") != "done":
        if differing:
            raise UserError(
                f"{run.path} holds a run with another configuration ({difference}); "
                "choose another sweep= or remove the directory"
            )
        return False
    log.info("%s is done already: %s", run.path, figures(summary))
    if differing:
        log.warning("%s: %s; to train it as it is now, choose another sweep=", run.path, difference)
    return True


def require_same_images(run: RunDirectory, stored: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse another ``data.root`` of images that have no name of their own, unless they are the same images.

    Raises:
        UserError: they are others, or cannot be found.
    """
    roots = [(old, new) for key, old, new in changes(stored, asked) if key == "data.root"]
    if not roots or asked["data"].get("_target_") != stored["data"].get("_target_"):
        return
    fingerprint = instantiate(asked["data"], _convert_="all").fingerprint()
    if fingerprint is None or fingerprint != run.read_summary().get("data_fingerprint"):
        ((old, new),) = roots
        raise UserError(
            f"{run.path} holds a run on other images (data.root was {old}, and the files in {new} are not the same); "
            "choose another sweep= or run="
        )


def figures(summary: Mapping[str, Any]) -> str:
    """Say what a run has reached, in a few words."""
    words = [f"{summary['epochs']} epochs"]
    for name in ("best", "last", "test"):
        top1 = (summary.get(name) or {}).get("top1")
        if top1 is not None:
            words.append(f"{name} top-1 {top1:.2%}")
    return ", ".join(words)
