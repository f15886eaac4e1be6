"""The configuration of a resumed run: the stored one, with what the command line may give anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from efficientconv.errors import UserError
from efficientconv.runs.directory import RunDirectory
from efficientconv.runs.names import split_override
from efficientconv.runs.safe_config import loading_arguments, require_safe_targets
from efficientconv.runs.same_result import DEVICE_SETTINGS, has_neutral_settings, is_same_value

HOW = ("run", "resume", "allow")  # say which run, not how it is trained
OPEN_GROUPS = ("trainer", "logger")  # take keys that the stored configuration does not have


def resumed_config(config: DictConfig, run: RunDirectory, overrides: Sequence[str]) -> dict[str, Any]:
    """Return the stored configuration, with the command line's ``trainer.max_epochs`` and what changes no result.

    Args:
        config: composed of the command line alone: of it only what ``overrides`` name is used.
        run: what to go on with.
        overrides: the command line.

    Raises:
        UserError: no run, an override that resuming does not take, fewer epochs than are done, a stored target that
            is not safe, or a run that cannot begin again since it loads something.
    """
    if config.run is None:
        raise UserError("resume=true needs the run directory: run=outputs/runs/<data>/<model>-<conv>/<time>")
    stored = run.read_config()
    require_safe_targets(stored, list(config.allow), str(run.config_file))
    for override in overrides:
        if split_override(override)[0] not in HOW:
            _take(stored, config, override)
    _require_enough_epochs(stored, run)
    _require_checkpoint_or_no_loading(stored, run)
    return stored


def _take(stored: dict[str, Any], config: DictConfig, override: str) -> None:
    """Set in ``stored`` what an override says, if a resumed run may."""
    key, option = split_override(override)
    if has_neutral_settings(key, option):
        stored[key] |= {name: config[key][name] for name in DEVICE_SETTINGS if name in config[key]}
        return
    group, _, name = key.rpartition(".")
    node = _node(stored, group)
    value = _plain(config, key)
    if key != "trainer.max_epochs" and not _may_change(key, node.get(name), value, stored["data"]):
        raise UserError(
            f"{key}={option}: a resumed run keeps its configuration; only trainer.max_epochs may change, and what "
            "does not change the result: data.root, data.workers and data.loader, device settings, loggers, intervals"
        )
    if name not in node and group.partition(".")[0] not in OPEN_GROUPS:
        raise UserError(f"{key}: this run has no such key; {group or 'it'} has {', '.join(node)}")
    node[name] = value


def _may_change(key: str, value: Any, other: Any, data: Mapping[str, Any]) -> bool:
    """Tell whether a setting may be given anew; of images without a name `require_same_images` looks at the root."""
    return key == "data.root" or is_same_value(key, value, other, data)


def _node(stored: dict[str, Any], group: str) -> dict[str, Any]:
    node: Any = stored
    for name in filter(None, group.split(".")):
        node = node.get(name)
        if not isinstance(node, dict):
            raise UserError(f"{group}: this run has no such key")
    return node


def _plain(config: DictConfig, key: str) -> Any:
    value = OmegaConf.select(config, key)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _require_enough_epochs(stored: Mapping[str, Any], run: RunDirectory) -> None:
    epochs = stored["trainer"]["max_epochs"]
    done = run.read_summary().get("epochs", len(run.read_metrics()))
    if epochs < done:
        raise UserError(f"trainer.max_epochs={epochs}: {done} epochs of this run are done")


def _require_checkpoint_or_no_loading(stored: Mapping[str, Any], run: RunDirectory) -> None:
    """Refuse to begin a run again without the weights that it began with: a stored configuration loads nothing."""
    loaded = loading_arguments({group: stored[group] for group in ("model", "conv")})
    loaded += [f"{key}={stored[key]}" for key in ("init_from", "teacher") if stored.get(key)]
    if loaded and not run.checkpoint("last").exists():
        command = " ".join(["python train.py", *run.read_summary().get("overrides", [])])
        raise UserError(
            f"{run.path} was stopped before its first checkpoint, and begins with weights that resuming does not load "
            f"({', '.join(loaded)}): give its command line again, {command}"
        )
