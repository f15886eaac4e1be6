"""Do two networks say the same? Asked on real images, of any two things that map a batch to a row an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from efficientconv.errors import UserError

Runner = Callable[[Tensor], Tensor]
AT_ONCE = 64  # images, where any number will do


@dataclass(frozen=True)
class Agreement:
    """How far one's outputs are from the other's.

    Attributes:
        difference: the largest of any output.
        relative: the same as a part of the largest output, or of 1 if that is larger.
        same_top1: fraction of the images for which both name the same class first.
    """

    difference: float
    relative: float
    same_top1: float


def run_batched(runner: Runner, images: Tensor, batch: int | None = None) -> Tensor:
    """Run ``images`` (N, …) in batches and return all outputs, (N, classes).

    Args:
        runner: maps a batch to its outputs.
        images: all of them.
        batch: the one size that the runner takes, to which the last batch is filled up; None is any.
    """
    size = batch or AT_ONCE
    outputs = []
    with torch.no_grad():
        for start in range(0, len(images), size):
            chunk = images[start : start + size]
            missing = size - len(chunk) if batch else 0
            filled = torch.cat([chunk, chunk[:1].expand(missing, *chunk.shape[1:])]) if missing else chunk
            outputs.append(runner(filled.contiguous())[: len(chunk)])
    return torch.cat(outputs)


def agreement(reference: Tensor, found: Tensor) -> Agreement:
    """Compare outputs (N, classes) for the same images."""
    difference = (reference - found).abs().max().item()
    largest = max(1.0, reference.abs().max().item())
    same = (reference.argmax(1) == found.argmax(1)).float().mean().item()
    return Agreement(difference, difference / largest, same)


def require_agreement(found: Agreement, tolerance: float, what: str) -> None:
    """Refuse what differs by more than rounding.

    Raises:
        UserError: names what differs, by how much, and what is allowed.
    """
    if not found.relative <= tolerance:
        raise UserError(
            f"{what} would change the network: on real images its outputs differ by {found.relative:.1e} of the "
            f"largest, and {tolerance:.0e} is allowed; nothing was written"
        )


def top1(outputs: Tensor, labels: Tensor) -> float:
    """Return the fraction of the images whose class comes first."""
    return (outputs.argmax(1) == labels).float().mean().item()
