"""Optimizer parameter groups, and learning-rate schedules as a factor of the fraction of training that is done."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatch
from itertools import pairwise
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

Schedule = Callable[[int, int], float]
"""The factor of the learning rate once ``step`` of ``total_steps`` optimizer steps are done."""


def parameter_groups(model: nn.Module, decay_norm_and_bias: bool, layer_decay: float = 1.0) -> list[dict]:
    """Split the trainable parameters into those that decay and those that do not, and by their block's rate.

    Args:
        model: the network. What its ``no_weight_decay()`` names does not decay: timm's networks list position
            embeddings and the like there, by name or by a pattern such as ``pos_embed.*``.
        decay_norm_and_bias: ``True`` lets everything else decay, as the papers do; ``False`` spares parameters of at
            most one dimension (batch norms and biases) too.
        layer_decay: the factor of the rate from one block to the one in front of it; the last one has the full rate.

    Returns:
        One group, and where some parameters are spared a second one with ``weight_decay=0``; with ``layer_decay`` these
        for each block, the last block first, and the factor of its rate as ``lr_scale``.
    """
    never = list(getattr(model, "no_weight_decay", list)())
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]

    def is_spared(name: str, parameter: nn.Parameter) -> bool:
        small = parameter.ndim <= 1 and not decay_norm_and_bias
        return small or any(fnmatch(name, pattern) for pattern in never)

    if layer_decay == 1:
        return _by_decay(trained, is_spared)
    blocks: dict[str, list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in trained:
        blocks.setdefault(_block(name), []).append((name, parameter))
    groups: list[dict] = []
    for distance, members in enumerate(reversed(blocks.values())):
        groups += _by_decay(members, is_spared, lr_scale=layer_decay**distance)
    return groups


def _by_decay(
    parameters: Sequence[tuple[str, nn.Parameter]], is_spared: Callable[[str, nn.Parameter], bool], **settings: float
) -> list[dict]:
    decayed = [parameter for name, parameter in parameters if not is_spared(name, parameter)]
    spared = [parameter for name, parameter in parameters if is_spared(name, parameter)]
    groups: list[dict] = [{"params": decayed, **settings}]
    return [*groups, {"params": spared, "weight_decay": 0.0, **settings}] if spared else groups


def scale_rates(optimizer: Optimizer) -> None:
    """Multiply the rate of each parameter group by its ``lr_scale``, where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * group.get("lr_scale", 1.0)


def _block(name: str) -> str:
    """Return the block that a parameter is in: its name up to the first numbers, or without one its first word.

    ``layer1.0.conv1.weight`` → ``layer1.0``, ``fc.weight`` → ``fc``.
    """
    numbered = re.match(r"(?:[^.]+\.)*?\d+(?:\.\d+)*(?=\.)", name)
    return numbered[0] if numbered else name.partition(".")[0]


def fuse_on_cpu(optimizer: Optimizer) -> None:
    """Have all parameters stepped at once, where they are on a CPU, the optimizer can, and nothing else was asked for.

    Of ResNet-56 with BDRConv, which has 715, SGD's step takes 2 ms so, one by one 10 ms, with ``foreach`` 6 ms.
    """
    for group in optimizer.param_groups:
        is_free = group.get("fused", False) is None and not group.get("foreach") and not group.get("differentiable")
        if is_free and all(p.device.type == "cpu" and p.is_floating_point() for p in group["params"]):
            group["fused"] = True


class ScheduledRate(LRScheduler):
    """Gives each parameter group its own rate times the schedule's factor.

    A checkpoint keeps the place as optimizer steps and how many of them an epoch had. Where a run goes on with another
    number of devices, or of epochs, an epoch has another number of steps, or the schedule another end: the place moves
    to the step of the new count at which as many epochs are done.

    Args:
        optimizer: sets the rates that the factor applies to.
        schedule: the factor, as a function of the steps done and of all of them.
        total_steps: optimizer steps of the whole training.
        epochs: of the whole training.
    """

    def __init__(self, optimizer: Optimizer, schedule: Schedule, total_steps: int, epochs: int = 1) -> None:
        self.schedule, self.total_steps = schedule, total_steps
        self.steps_per_epoch = total_steps / epochs
        super().__init__(optimizer)

    @property
    def fraction_done(self) -> float:
        """Return how much of the training is done, from 0 to 1."""
        return min(1.0, self.last_epoch / self.total_steps)

    def get_lr(self) -> list[Any]:
        """Return the rate of each group at this place."""
        factor = self.schedule(self.last_epoch, self.total_steps)  # torch's name for the calls of step() so far
        return [rate * factor for rate in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Return the place, as plain numbers."""
        return {"step": self.last_epoch, "steps_per_epoch": self.steps_per_epoch}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take the place up again, and set the rates that belong to it."""
        self.last_epoch = round(state_dict["step"] * self.steps_per_epoch / state_dict["steps_per_epoch"])
        self._last_lr = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate


def constant(step: int, total_steps: int) -> float:
    """Keep the rate as it is."""
    return 1.0


def step_decay(step: int, total_steps: int, milestones: Sequence[float], gamma: float) -> float:
    """Multiply the rate by ``gamma`` at each milestone, a fraction of all ``total_steps``.

    Raises:
        ValueError: a milestone outside 0 to 1, or milestones that do not increase.
    """
    if any(not 0 < m < 1 for m in milestones) or any(a >= b for a, b in pairwise(milestones)):
        raise ValueError(f"milestones={list(milestones)}: increasing fractions of 1 are needed, as [0.5, 0.75]")
    return gamma ** sum(step >= round(m * total_steps) for m in milestones)  # 0.6666666667 of 90 epochs is 60


def warmup_cosine(step: int, total_steps: int, warmup: float) -> float:
    """Rise linearly to the full rate during the fraction ``warmup`` of the steps, then fall to zero along a cosine.

    Raises:
        ValueError: ``warmup`` outside [0, 1).
    """
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup={warmup}: must be a fraction of the training, at least 0 and below 1")
    rising = round(warmup * total_steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total_steps - rising)))
