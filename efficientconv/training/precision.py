"""``trainer.precision=auto``: bfloat16 where the device is fast at it, float32 elsewhere."""

from __future__ import annotations

from typing import Any

import torch


def resolve_precision(precision: Any, accelerator: str) -> Any:
    """Return Lightning's name of the precision to use.

    Args:
        precision: ``auto``, or any precision that ``lightning.pytorch.Trainer`` knows.
        accelerator: ``auto``, ``cpu``, ``gpu``, …
    """
    if precision != "auto":
        return precision
    uses_cuda = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if uses_cuda and torch.cuda.is_bf16_supported() else "32-true"
