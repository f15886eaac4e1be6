"""Whether a sweep's job is done, as its directory says; asking imports no torch, unless images have moved."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from efficientconv.errors import UserError
from efficientconv.runs.directory import RunDirectory
from efficientconv.runs.same_result import changes

log = logging.getLogger(__name__)

OF_SWEEPS = ("launcher", "sweeper")
"""Groups that say where and why a job is run, and are nothing of the run's own."""


def wanted(config: DictConfig, choices: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a composed job asks for, as its run directory would keep it.

    Args:
        config: composed, without ``hydra``.
        choices: which option of each group was chosen; those of Hydra's own groups are left out.

    Raises:
        MissingMandatoryValue: a value that has to be given was not.
    """
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key not in OF_SWEEPS])
    values = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
    assert isinstance(values, dict)
    told = {group: option for group, option in choices.items() if "/" not in group and group not in OF_SWEEPS}
    return {str(key): value for key, value in values.items()} | {"choices": told}


def is_done(run: RunDirectory, wanted: Mapping[str, Any]) -> bool:
    """Tell whether a sweep's job is done: what is done stays done, whatever has changed since, which a warning says.

    Raises:
        UserError: see `standing`.
    """
    done, difference = standing(run, wanted)
    if done and difference:
        log.warning("%s: %s; to train it as it is now, choose another sweep=", run.path, difference)
    return done


def standing(run: RunDirectory, wanted: Mapping[str, Any]) -> tuple[bool, str]:
    """Return whether a sweep's job is done, and in what its directory differs from what the job asks for.

    Raises:
        UserError: the directory holds a run on other images, or an unfinished one with another configuration.
    """
    if not run.config_file.exists():
        return False, ""
    run.set_damaged_summary_aside()
    stored, summary = run.read_config(), run.read_summary()
    require_same_images(run, stored, wanted)
    found = (change for change in changes(stored, wanted) if change[0] != "data.root")
    difference = next((f"{key} was {old!r} and is now {new!r}" for key, old, new in found), "")
    done = summary.get("status") == "done"
    if difference and not done:
        raise UserError(
            f"{run.path} holds a run with another configuration ({difference}); "
            "choose another sweep= or remove the directory"
        )
    return done, difference


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
    words = [f"{summary['epochs']} epoch{'s' * (summary['epochs'] != 1)}"]
    for name in ("best", "last", "test"):
        top1 = (summary.get(name) or {}).get("top1")
        if top1 is not None:
            words.append(f"{name} top-1 {top1:.2%}")
    return ", ".join(words)
