"""Where the configurations are: inside the package where a wheel has put them, beside it in a checkout.

Whoever composes them needs this module, so it also makes the resolver known that they use.
"""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

_PACKAGE = Path(__file__).resolve().parent
CONFIGS = next(path for path in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if path.is_dir())


def is_named(*keys: str) -> bool:
    """Say whether the command line of this job sets one of the ``keys``, as in ``${named:data.batch_size}``."""
    if not HydraConfig.initialized():
        return False
    words = HydraConfig.get().overrides.task
    return any(word.lstrip("+").partition("=")[0] in keys for word in words)


OmegaConf.register_new_resolver("named", is_named, replace=True)
