"""Number formats: bfloat16 where the device is fast at it, float32 elsewhere, TF32 inside float32 on CUDA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from efficientconv.errors import UserError


def resolve_precision(precision: str | int, accelerator: str) -> Any:
    """Return Lightning's name of the precision to use.

    Args:
        precision: ``auto``, or any precision that ``lightning.pytorch.Trainer`` knows.
        accelerator: ``auto``, ``cpu``, ``gpu``, …
    """
    if precision != "auto":
        return precision
    return "bf16-mixed" if uses_cuda(accelerator) and torch.cuda.is_bf16_supported() else "32-true"


def require_possible(settings: Mapping[str, Any]) -> None:
    """Refuse a combination of the trainer's settings that would be replaced in silence, or fail in the first step.

    Raises:
        UserError: float16, or batch norms over all ranks, without CUDA.
    """
    if uses_cuda(settings["accelerator"]):
        return
    if settings["precision"] == "16-mixed":
        raise UserError("trainer.precision=16-mixed: float16 needs a CUDA device; bf16-mixed runs everywhere")
    if settings["sync_batchnorm"]:
        raise UserError("trainer.sync_batchnorm=true: torch has it for CUDA devices only; false runs everywhere")


def allow_tf32() -> None:
    """Let CUDA devices round the factors of float32 products to 10 bits, as cuDNN's convolutions do by default."""
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")


def uses_cuda(accelerator: str) -> bool:
    """Tell whether training with this ``trainer.accelerator`` runs on a CUDA device."""
    return accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
