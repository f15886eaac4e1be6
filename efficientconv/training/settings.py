"""What can be said of a configuration's values before anything is built of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from efficientconv.errors import UserError, require_whole


def require_sensible(config: Mapping[str, Any]) -> None:
    """Refuse values that would only fail deep inside a library, or be taken for something else in silence.

    Args:
        config: the resolved configuration of a training.

    Raises:
        UserError: names the first wrong value and the rule.
    """
    trainer, recipe = config["trainer"], config["recipe"]
    require_whole("seed", config["seed"], least=0)
    require_whole("trainer.max_epochs", trainer["max_epochs"], least=1)
    require_whole("trainer.log_every_n_steps", trainer["log_every_n_steps"], least=1)
    if not isinstance(config["compile"], bool):
        raise UserError(f"compile={config['compile']}: must be true or false")
    if not isinstance(config["channels_last"], bool) and config["channels_last"] != "auto":
        raise UserError(f"channels_last={config['channels_last']}: must be true, false or auto")
    smoothing = recipe["label_smoothing"]
    if isinstance(smoothing, str) or not 0 <= smoothing <= 1:
        raise UserError(f"recipe.label_smoothing={smoothing}: must be a number from 0 to 1")
    for name, value in recipe["optimizer"].items():
        if isinstance(value, str) and name != "_target_":
            raise UserError(f"recipe.optimizer.{name}={value}: must be a number")
