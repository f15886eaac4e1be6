"""The statistics of batch norms, once the layers in front of them have changed.

- A norm of the network behind a new layer: its running statistics are those of the new activations, so that what goes
  on has the mean and the spread that it had before. Each is the mean over some batches of training images, in training
  mode, as ``torch.optim.swa_utils.update_bn`` does it for all norms of a network.
- A norm inside a layer that begins near another one (``ConvVariant.approximate``) is transparent there. It takes on the
  statistics of what it sees, and weights with which it stays transparent, so that training begins where evaluation
  does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from efficientconv.eval_mode import in_eval_mode
from efficientconv.layers import ConvVariant
from efficientconv.layers.batch_norm import BATCH_NORMS, adopt_statistics


@torch.no_grad()
def estimate_norms(
    model: nn.Module, near: Sequence[ConvVariant], changed: Sequence[nn.Module], batches: Iterable[Tensor]
) -> int:
    """Give batch norms the statistics that belong to new layers; the mode of the network stays as it is.

    Args:
        model: the network.
        near: new layers that begin near old ones; their inner norms stay transparent.
        changed: new layers that do not compute what the old ones did; the norms behind them are estimated anew.
        batches: images, (N, C, H, W) each, on the device of ``model``.

    Returns:
        How many norms of the network were estimated anew.
    """
    inner = [norm for layer in near for norm in layer.modules() if isinstance(norm, nn.BatchNorm2d)]
    if not inner and not changed:
        return 0
    iterator = iter(batches)
    first = next(iterator)
    behind = [norm for norm in _behind(model, changed, first) if norm not in set(inner)]
    with in_eval_mode(model), momentum_of(behind, None), statistics_adopted(inner):
        for norm in behind:
            norm.reset_running_stats()
            norm.train()
        for batch in chain([first], iterator):
            model(batch)
    return len(behind)


class Moments:
    """Adds up a norm's inputs, channel by channel, as a hook in front of it."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = self.squares = torch.zeros(())

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Add what the norm is called with, (N, C, H, W)."""
        x = inputs[0].double()
        self.count += x.numel() // x.shape[1]
        self.sum = self.sum.to(x.device) + x.sum((0, 2, 3))
        self.squares = self.squares.to(x.device) + x.square().sum((0, 2, 3))

    def mean_and_variance(self) -> tuple[Tensor, Tensor]:
        """Return both of all inputs so far, (C,) each."""
        mean = self.sum / self.count
        return mean, (self.squares / self.count - mean.square()).clamp(min=0)


@contextmanager
def statistics_adopted(norms: Sequence[nn.BatchNorm2d]) -> Iterator[None]:
    """Let norms adopt the statistics of all that they see in a ``with`` block, see ``adopt_statistics``."""
    moments = {norm: Moments() for norm in norms}
    with ExitStack() as hooks:
        for norm, seen in moments.items():
            hooks.enter_context(norm.register_forward_pre_hook(seen))
        yield
    for norm, seen in moments.items():
        adopt_statistics(norm, *seen.mean_and_variance())


def _behind(model: nn.Module, changed: Sequence[nn.Module], images: Tensor) -> list[Any]:
    """List the batch norms that the model calls after the first of the ``changed`` modules, or inside it."""
    watched = [module for module in model.modules() if module in set(changed) or isinstance(module, BATCH_NORMS)]
    called = in_order_of_calls(model, watched, images)
    first = min((called.index(module) for module in changed if module in called), default=len(called))
    norms = dict.fromkeys(module for module in called[first:] if isinstance(module, BATCH_NORMS))
    return [norm for norm in norms if norm.track_running_stats]


@torch.no_grad()
def in_order_of_calls(model: nn.Module, watched: Iterable[nn.Module], images: Tensor) -> list[nn.Module]:
    """List modules in the order in which a network in eval mode calls them; one that is called twice stands twice."""
    called: list[nn.Module] = []
    with in_eval_mode(model), ExitStack() as hooks:
        for module in watched:
            hooks.enter_context(module.register_forward_pre_hook(lambda module, _: called.append(module)))
        model(images[:1])
    return called


@contextmanager
def momentum_of(norms: Sequence[Any], momentum: float | None) -> Iterator[None]:
    """Let norms have another momentum in a ``with`` block.

    Args:
        norms: batch norms.
        momentum: with None the running statistics are plain means over all batches, with 0 they stay as they are.
    """
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = momentum
    try:
        yield
    finally:
        for norm, own in zip(norms, momenta, strict=True):
            norm.momentum = own
