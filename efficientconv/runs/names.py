"""Where a run directory goes, as resolvers for Hydra's own configuration.

::

    outputs/runs/<data>/<model>-<conv>/<YYYYmmdd-HHMMSS>-<4 hex>/    single runs: never collide, never overwrite
    outputs/sweeps/<sweep>/<key-value_key-value, sorted>/            multirun: the same job, the same directory
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from efficientconv.errors import UserError
from efficientconv.processes import agreed
from efficientconv.runs.directory import RunDirectory
from efficientconv.runs.same_result import name_in_job

LONGEST_NAME = 120  # many file systems stop at 255 bytes


def register_resolvers() -> None:
    """Make ``${run_directory:}`` and ``${job_directory:}`` known to OmegaConf."""
    OmegaConf.register_new_resolver("run_stamp", run_stamp, use_cache=True, replace=True)  # one for each configuration
    OmegaConf.register_new_resolver("run_directory", run_directory, replace=True)
    OmegaConf.register_new_resolver("job_directory", job_directory, replace=True)


def run_stamp() -> str:
    """Return the time and four hexadecimal digits, so that runs started in one second differ too.

    The processes of one run return the same.
    """
    return agreed(f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}")


def run_directory(stamp: str, *, _root_: DictConfig) -> str:
    """Return the directory that the command line names, or a new one for a single run that starts at ``stamp``.

    Raises:
        UserError: a value, or the run to resume, is missing: better said before there is a directory.
    """
    own = OmegaConf.masked_copy(_root_, [str(key) for key in _root_ if key != "hydra"])
    for key in sorted(OmegaConf.missing_keys(own)):
        raise UserError(f"{key} is missing: give it as {key}=<value>")
    if _root_.run is not None:
        if not str(_root_.run):
            raise UserError("run is empty: give a directory, or leave run= out for a new one")
        if _root_.resume:
            RunDirectory(_root_.run).require()
        return str(_root_.run)
    choices = HydraConfig.get().runtime.choices
    model = ".".join([choices["model"], *filter(None, [_root_.model.get("name")])])
    network = safe_name(f"{model}-{choices['conv']}")
    return f"{_root_.outputs}/runs/{safe_name(choices['data'])}/{network}/{stamp}"


def job_directory(*, _root_: DictConfig) -> str:
    """Return the directory of a sweep's job, made of all its overrides but those that change nothing in its result."""
    data = OmegaConf.to_container(_root_.data, resolve=True)
    return job_name(list(HydraConfig.get().overrides.task), cast(dict, data))


def job_name(overrides: Sequence[str], data: Mapping[str, Any]) -> str:
    """Make a directory name of overrides: ``['seed=1', 'conv=bsconv_u']`` → ``conv-bsconv_u_seed-1``.

    Args:
        overrides: of the job; their order does not matter.
        data: the configuration of its data, which decides whether the place of the images matters.
    """
    pairs = map(split_override, overrides)
    told = sorted(filter(None, (name_in_job(key, value, data) for key, value in pairs)))
    name = "_".join(told) or "default"
    safe = safe_name(name)
    if safe == name and len(safe) <= LONGEST_NAME:
        return safe
    digest = hashlib.sha1(name.encode()).hexdigest()[:8]  # keeps apart what the cut, or the letters allowed, make equal
    return f"{safe[:LONGEST_NAME]}-{digest}"


def composable(words: Sequence[str]) -> list[str]:
    """Return a command line that composes where it goes on with a run, whose keys the defaults may not have.

    ``["resume=true", "data.workers=4"]`` → ``["resume=true", "++data.workers=4"]``; any other is returned as it is.
    """
    pairs = map(split_override, words)
    if not any(key == "resume" and value.lower() in ("true", "1", "yes", "on") for key, value in pairs):
        return list(words)
    return [f"++{word}" if "." in word.partition("=")[0] and word[0].isalpha() else word for word in words]


def split_override(override: str) -> tuple[str, str]:
    """Split a word of the command line: ``+trainer.max_epochs=5`` → ``("trainer.max_epochs", "5")``."""
    key, _, value = override.lstrip("+~").partition("=")
    return key, value


def safe_name(text: str) -> str:
    """Replace every run of characters that Hydra or a file system may stumble over."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-") or "none"
