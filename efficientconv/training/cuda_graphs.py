"""A training step's loss and gradients, recorded once as CUDA graphs and replayed.

A small network on a fast GPU waits for Python: ResNet-20's forward and backward passes are some 500 kernels of a few
microseconds each. Replaying the recorded passes launches them all at once. The optimizer, the schedule and whatever
watches the training stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from efficientconv.errors import UserError

WARM_UP_STEPS = 4  # before recording: cuDNN looks for its kernels, torch.compile compiles


class GraphedStep:
    """Maps a batch to what ``step`` returns for it, by replaying a recording where the batch has the recorded shape.

    The first batch is recorded; one of another shape, such as the smaller last one of an epoch, runs as it would
    without graphs. What is returned is a copy: the next replay overwrites the recording's own outputs.

    Args:
        step: maps images (N, C, H, W) and targets to a tuple of scalars, the first of which is the loss. Only its
            parameters need gradients, and none of its modules has hooks.
    """

    def __init__(self, step: nn.Module) -> None:
        self.step = step
        self.replay: nn.Module | None = None
        self.shapes: tuple[torch.Size, ...] = ()

    def __call__(self, images: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """Return the step's scalars, the first of which has gradients."""
        if self.replay is None:
            self.shapes = (images.shape, targets.shape)
            self.replay = record(self.step, images, targets)
        if (images.shape, targets.shape) != self.shapes:
            return self.step(images, targets)
        return tuple(output.clone() for output in self.replay(images, targets))


class _Recorded(nn.Module):
    """The step under another name: recording replaces ``forward``, and the step itself must keep its own."""

    def __init__(self, step: nn.Module) -> None:
        super().__init__()
        self.step = step

    def forward(self, images: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        return self.step(images, targets)


def record(step: nn.Module, images: Tensor, targets: Tensor) -> nn.Module:
    """Record a step's forward and backward passes for batches like this one.

    Warming up runs the step some times; running statistics and the random number generator are set back behind it.
    """
    autocast = torch.autocast(
        "cuda", torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda"), cache_enabled=False
    )
    with _kept(step, images.device), autocast:
        recorded = _Recorded(step)
        torch.cuda.make_graphed_callables(
            recorded,  # in place
            (images.clone(), targets.clone()),
            num_warmup_iters=WARM_UP_STEPS,
            allow_unused_input=True,
        )
        return recorded


@contextmanager
def _kept(step: nn.Module, device: torch.device) -> Iterator[None]:
    """Set buffers and the device's random number generator back to what they were before the block."""
    buffers = [buffer.clone() for buffer in step.buffers()]
    random_state = torch.cuda.get_rng_state(device)
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in zip(step.buffers(), buffers, strict=True):
                buffer.copy_(before)
        torch.cuda.set_rng_state(random_state, device)


def use_cuda_graphs(wanted: bool | str, trainer: Mapping[str, Any], on_cuda: bool) -> bool:
    """Decide whether training replays CUDA graphs.

    Args:
        wanted: ``cuda_graphs`` of the configuration; ``auto`` takes them where they can be.
        trainer: its ``devices`` and ``accumulate_grad_batches``.
        on_cuda: whether training runs on a CUDA device.

    Raises:
        UserError: they are asked for where they cannot be.
    """
    if wanted is False:
        return False
    reason = None
    if not on_cuda:
        reason = "need a CUDA device"
    elif trainer["devices"] not in (1, "1"):
        reason = "need trainer.devices=1: the ranks of several devices average gradients within the backward pass"
    elif trainer["accumulate_grad_batches"] != 1:
        reason = "need trainer.accumulate_grad_batches=1: a replay overwrites the gradients of the one before"
    if reason and wanted is True:
        raise UserError(f"cuda_graphs=true: CUDA graphs {reason}")
    return reason is None
