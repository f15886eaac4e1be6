"""Training: from a composed configuration to a run directory.

Configurations name what this package exports; a name is imported when it is asked for.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "checkpoints": ["Checkpoints"],
        "loggers": ["tensorboard_logger"],
        "rate_finder": ["RateFinder"],
        "optim": ["constant", "step_decay", "warmup_cosine"],
        "wandb_run": ["wandb_logger"],
    },
)
