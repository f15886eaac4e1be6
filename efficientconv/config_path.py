"""Where the configurations are: inside the package where a wheel has put them, beside it in a checkout.

Whoever composes or builds them needs this module, so it also makes the resolver known that they use.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import OmegaConf

_PACKAGE = Path(__file__).resolve().parent
CONFIGS = next(path for path in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if path.is_dir())

_OWN = "EFFICIENTCONV_CONFIG_DIR"
"""Holds the user's own folder of configurations, for this process and those that it starts."""


def own_configs() -> Path | None:
    """Return the folder that ``--config-dir`` names; None where it names none."""
    return Path(os.environ[_OWN]) if os.environ.get(_OWN) else None


@contextmanager
def with_own_configs(folder: Path | None) -> Iterator[None]:
    """Let `own_configs` return ``folder`` for as long as the block lasts."""
    before = os.environ.get(_OWN, "")
    os.environ[_OWN] = str(folder or "")
    try:
        yield
    finally:
        os.environ[_OWN] = before


def searchpath() -> list[str]:
    """Return the override by which Hydra finds the user's own configurations, in a list; an empty one without them."""
    folder = own_configs()
    if folder is None:
        return []
    quoted = str(folder).replace("'", "\\'")
    return [f"hydra.searchpath=['file://{quoted}']"]


def built(group: str, node: Any) -> Any:
    """Build what the configuration of a group describes; an error names its keys by their whole path."""
    return instantiate({group: node}, _convert_="all")[group]


def is_named(*keys: str) -> bool:
    """Say whether the command line of this job sets one of the ``keys``, as in ``${named:data.batch_size}``."""
    if not HydraConfig.initialized():
        return False
    words = HydraConfig.get().overrides.task
    return any(word.lstrip("+").partition("=")[0] in keys for word in words)


OmegaConf.register_new_resolver("named", is_named, replace=True)
