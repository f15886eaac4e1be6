"""A whole training step, forward, backward and optimizer, recorded once as a CUDA graph and replayed.

A small network on a fast GPU waits for Python: one step of ResNet-20 is some 500 kernels of a few microseconds each.
A replay launches them all at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from efficientconv.errors import UserError
from efficientconv.runs.directory import first_line

log = logging.getLogger(__name__)
WARM_UP_STEPS = 3  # before recording: cuDNN looks for its kernels


class GraphedStep:
    """Trains on a batch by replaying a recorded step, where the batch has the recorded shape.

    The first batch is left to the caller, whose step makes the optimizer's state; the next of its shape is recorded.
    A batch of another shape, such as the smaller last one of an epoch, is the caller's too.

    Args:
        loss: maps images (N, C, H, W) and targets to scalars, the first of which is the loss.
        model: the network in it.
        optimizer: of the network's parameters. Its rates may change from step to step; its other settings are recorded.
    """

    def __init__(
        self, loss: Callable[[Tensor, Tensor], tuple[Tensor, ...]], model: nn.Module, optimizer: Optimizer
    ) -> None:
        self.loss, self.model, self.optimizer = loss, model, optimizer
        self.shapes: tuple[torch.Size, ...] = ()
        self.graph: torch.cuda.CUDAGraph | None = None
        self.impossible = False

    def takes(self, images: Tensor, targets: Tensor) -> bool:
        """Tell whether this batch can be replayed; record the step where it is the first that can."""
        shapes = (images.shape, targets.shape)
        if not self.shapes:
            self.shapes = shapes
            return False
        if shapes != self.shapes or self.impossible:
            return False
        if self.graph is None:
            self._try_to_record(images, targets)
        return self.graph is not None

    def _try_to_record(self, images: Tensor, targets: Tensor) -> None:
        try:
            self.graph = self._record(images, targets)
        except RuntimeError as error:  # a network that asks the device for a number, for example
            self.impossible = True
            self.optimizer.zero_grad(set_to_none=True)
            log.warning("training goes on without CUDA graphs: %s", first_line(error))

    def __call__(self, images: Tensor, targets: Tensor) -> list[Tensor]:
        """Take one step with a batch that `takes` has taken; return the scalars behind the loss."""
        assert self.graph is not None
        self.images.copy_(images)
        self.targets.copy_(targets)
        for rate, group in zip(self.rates, self.optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        self.graph.replay()
        return [figure.clone() for figure in self.figures]  # the next replay overwrites them

    def _record(self, images: Tensor, targets: Tensor) -> torch.cuda.CUDAGraph:
        self.images, self.targets = images.clone(), targets.clone()
        self.rates = [torch.empty((), device=images.device) for _ in self.optimizer.param_groups]
        for rate, group in zip(self.rates, self.optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        with rates_on_device(self.optimizer, self.rates):
            with unchanged(self.model, self.optimizer, images.device):
                side.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(side):
                    for _ in range(WARM_UP_STEPS):
                        self._whole_step()
                torch.cuda.current_stream().wait_stream(side)
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.figures = self._whole_step()
        return graph

    def _whole_step(self) -> list[Tensor]:
        """Take one step; its gradients exist within it only."""
        self.optimizer.zero_grad(set_to_none=True)
        device = self.images.device.type
        autocast = torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
        with torch.autocast(device, *autocast, cache_enabled=False):
            loss, *figures = self.loss(self.images, self.targets)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return figures


@contextmanager
def rates_on_device(optimizer: Optimizer, rates: list[Tensor]) -> Iterator[None]:
    """Let the optimizer read its learning rates from the device within the block, so that a replay reads them too."""
    numbers = [group["lr"] for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    try:
        yield
    finally:
        for group, number in zip(optimizer.param_groups, numbers, strict=True):
            group["lr"] = number


@contextmanager
def unchanged(model: nn.Module, optimizer: Optimizer, device: torch.device) -> Iterator[None]:
    """Set parameters, buffers, the optimizer's state and the random number generator back behind the block."""
    state = [value for values in optimizer.state.values() for value in values.values() if isinstance(value, Tensor)]
    tensors = [*model.parameters(), *model.buffers(), *state]
    before = [tensor.detach().clone() for tensor in tensors]
    random_state = torch.cuda.get_rng_state(device)
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in zip(tensors, before, strict=True):
                tensor.copy_(value)
        torch.cuda.set_rng_state(random_state, device)


def use_cuda_graphs(wanted: bool | str, trainer: Mapping[str, Any], on_cuda: bool) -> bool:
    """Decide whether training replays CUDA graphs.

    Args:
        wanted: ``cuda_graphs`` of the configuration; ``auto`` takes them where they can be.
        trainer: its ``devices``, ``accumulate_grad_batches``, ``gradient_clip_val`` and ``precision``.
        on_cuda: whether training runs on a CUDA device.

    Raises:
        UserError: they are asked for where they cannot be.
    """
    if wanted is False:
        return False
    obstacles = {
        "need a CUDA device": not on_cuda,
        "need trainer.devices=1, for ranks average their gradients within a step": trainer["devices"] not in (1, "1"),
        "need trainer.accumulate_grad_batches=1": trainer["accumulate_grad_batches"] != 1,
        "need trainer.gradient_clip_val=null": trainer["gradient_clip_val"] is not None,
        "need another trainer.precision than 16-mixed, which skips steps": trainer["precision"] == "16-mixed",
    }
    obstacle = next((text for text, is_there in obstacles.items() if is_there), None)
    if obstacle and wanted is True:
        raise UserError(f"cuda_graphs=true: CUDA graphs {obstacle}")
    return obstacle is None
