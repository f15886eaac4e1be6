"""What can be said of a configuration's values before anything is built of them."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

import yaml

from efficientconv.config_path import CONFIGS
from efficientconv.errors import UserError, nearest_first, require_whole

RECORDED = ("choices", "overrides")  # beside the keys of configs/train.yaml


def require_sensible(config: Mapping[str, Any]) -> None:
    """Refuse values that would only fail deep inside a library, or be taken for something else in silence.

    Args:
        config: the resolved configuration of a training.

    Raises:
        UserError: names the first wrong value and the rule.
    """
    _require_known_keys(config)
    require_whole("seed", config["seed"], least=0)
    _require_bool("compile", config["compile"])
    _require_start(config)
    if not isinstance(config["channels_last"], bool) and config["channels_last"] != "auto":
        raise UserError(f"channels_last={config['channels_last']}: must be true, false or auto")
    require_number("conv.regularization_weight", config["conv"]["regularization_weight"])
    _require_recipe(config["recipe"])
    _require_trainer(config["trainer"])
    _require_checkpoints(config["callbacks"].get("checkpoints") or {})


def require_number(name: str, value: Any, most: float | None = None) -> None:
    """Refuse ``name=value`` of the command line unless it is a number from 0 to ``most``.

    Raises:
        UserError: it is not.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= (float("inf") if most is None else most):
        rule = "of at least 0" if most is None else f"from 0 to {most:g}"
        raise UserError(f"{name}={value}: must be a number {rule}")


def require_device(accelerator: Any) -> None:
    """Refuse a ``trainer.accelerator`` that is none, or that this machine lacks.

    Raises:
        UserError: says which there are.
    """
    from lightning.pytorch.accelerators import AcceleratorRegistry

    classes = {name: AcceleratorRegistry[name]["accelerator"] for name in AcceleratorRegistry.available_accelerators()}
    here = [name for name, each in classes.items() if each.is_available()]
    names = {"auto", *here} | ({"gpu"} if {"cuda", "mps"} & set(here) else set())
    if accelerator not in names:
        listed = ", ".join(sorted(names))
        raise UserError(f"trainer.accelerator={accelerator}: there is no such device here; this machine has {listed}")


def _require_known_keys(config: Mapping[str, Any]) -> None:
    root = yaml.safe_load((CONFIGS / "train.yaml").read_text())
    groups = [name for default in root["defaults"] if isinstance(default, dict) for name in default]
    known = list(dict.fromkeys([*(key for key in root if key not in ("defaults", "hydra")), *groups, *RECORDED]))
    for key in config:
        if key not in known:
            raise UserError(f"{key}: there is no such key; nearest: {nearest_first(str(key), known, most=5)}")


def _require_bool(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise UserError(f"{name}={value}: must be true or false")


def _require_start(config: Mapping[str, Any]) -> None:
    near = config["conv"].get("initialize_from_replaced", False)
    if near not in (True, False, "data"):
        raise UserError(f"conv.initialize_from_replaced={near}: must be true, false or data")
    patterns = config.get("freeze", [])
    if not isinstance(patterns, list) or any(not isinstance(pattern, str) for pattern in patterns):
        raise UserError(f"freeze={patterns}: must be a list of patterns, as freeze=[stem,stages.0.*]")
    for key in ("init_from", "teacher"):
        if not isinstance(config.get(key), str | None) or config.get(key) == "":
            raise UserError(f"{key}={config[key]}: must be a path or a word")


def _require_recipe(recipe: Mapping[str, Any]) -> None:
    require_number("recipe.label_smoothing", recipe["label_smoothing"], most=1)
    if recipe.get("loss") and recipe["label_smoothing"]:
        raise UserError(
            f"recipe.label_smoothing={recipe['label_smoothing']}: is cross-entropy's, and recipe.loss is another loss; "
            "give recipe.label_smoothing=0, or recipe.loss=null"
        )
    _require_positive("recipe.layer_decay", recipe.get("layer_decay", 1), most=1)
    if "distillation" in recipe:
        _require_distillation(recipe["distillation"])
    for name, value in recipe["optimizer"].items():
        if isinstance(value, int | float | str) and not isinstance(value, bool) and not name.startswith("_"):
            require_number(f"recipe.optimizer.{name}", value)


def _require_distillation(distillation: Any) -> None:
    keys = ("weight", "temperature")
    if not isinstance(distillation, Mapping) or set(distillation) != set(keys):
        raise UserError(f"recipe.distillation={distillation}: must have {' and '.join(keys)}, and nothing else")
    require_number("recipe.distillation.weight", distillation["weight"], most=1)
    _require_positive("recipe.distillation.temperature", distillation["temperature"])


def _require_positive(name: str, value: Any, most: float | None = None) -> None:
    require_number(name, value, most)
    if not value:
        raise UserError(f"{name}={value}: must be above 0")


def _require_trainer(trainer: Mapping[str, Any]) -> None:
    from lightning.pytorch import Trainer

    arguments = list(signature(Trainer).parameters)
    for name in trainer:
        if name not in arguments:
            near = nearest_first(name, arguments, most=5)
            raise UserError(f"trainer.{name}: lightning.pytorch.Trainer has no such argument; nearest: {near}")
    require_whole("trainer.max_epochs", trainer["max_epochs"], least=1)
    require_whole("trainer.log_every_n_steps", trainer["log_every_n_steps"], least=1)
    if trainer["gradient_clip_val"] is not None:
        require_number("trainer.gradient_clip_val", trainer["gradient_clip_val"])
    for name in ("limit_train_batches", "limit_val_batches"):
        _require_limit(f"trainer.{name}", trainer[name], may_be_none=name == "limit_val_batches")
    require_device(trainer["accelerator"])


def _require_limit(name: str, value: Any, may_be_none: bool) -> None:
    """Refuse what is neither a fraction of the batches (a float) nor a number of them (an int)."""
    require_number(name, value, most=1 if isinstance(value, float) else None)
    if not value and not may_be_none:
        raise UserError(f"{name}={value}: nothing would be trained; a fraction such as 0.5, or a number of batches")


def _require_checkpoints(settings: Mapping[str, Any]) -> None:
    if settings.get("every_n_steps") is not None:
        require_whole("callbacks.checkpoints.every_n_steps", settings["every_n_steps"], least=1)
    if settings.get("every_n_minutes") is not None:
        require_number("callbacks.checkpoints.every_n_minutes", settings["every_n_minutes"])
