"""Everything this project changes in Lightning, made for lightning 2.6; a test fails where another version differs."""

from __future__ import annotations

import logging
import warnings

from lightning.pytorch import Trainer

NOT_FOR_THE_USER = (
    r".isinstance.treespec, LeafSpec.. is deprecated",  # lightning 2.6.6 on torch 2.15
    r"The '\w+' does not have many workers",  # batches come from memory
    r"The number of training batches .* is smaller than the logging interval",
    r"GPU available but not used",
    r"It is recommended to use `self.log\(.*sync_dist=True\)`",  # of metrics that are over all ranks already
    r"Detected call of `lr_scheduler.step\(\)` before",  # 16-mixed skips the first steps while it looks for a scale
    r"Found \S+ module\(s\) in eval mode at the start",  # the norms of frozen parts are, on purpose
)
FROM_TORCH_S_CORE = (r"Grad strides do not match bucket view strides",)  # 1×1 kernels in NHWC: the same memory


def silence_lightning() -> None:
    """Keep Lightning's errors, and of its warnings those that a user can do something about."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in (*NOT_FOR_THE_USER, *FROM_TORCH_S_CORE):
        warnings.filterwarnings("ignore", message)


def skip_sigterm_broadcast(trainer: Trainer) -> None:
    """Keep the ranks from asking each other after each step for a SIGTERM, which waits for the device.

    `efficientconv.training.checkpoints.Checkpoints` asks instead, without waiting.
    """
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
