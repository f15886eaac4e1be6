"""Optimizer parameter groups, and learning-rate schedules as a factor of the fraction of training that is done."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def parameter_groups(model: nn.Module, decay_norm_and_bias: bool) -> list[dict]:
    """Split the trainable parameters into those that decay and those that do not.

    Args:
        model: the network.
        decay_norm_and_bias: ``True`` leaves one group in which everything decays, as the papers do; ``False`` gives
            parameters of at most one dimension (batch norms and biases) a group with ``weight_decay=0``.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if decay_norm_and_bias:
        return [{"params": parameters}]
    return [
        {"params": [p for p in parameters if p.ndim > 1]},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def constant(optimizer: Optimizer, total_steps: int) -> LambdaLR:
    """Keep the rate as it is."""
    return LambdaLR(optimizer, lambda step: 1.0)


def step_decay(optimizer: Optimizer, total_steps: int, milestones: Sequence[float], gamma: float) -> LambdaLR:
    """Multiply the rate by ``gamma`` at each milestone, a fraction of all ``total_steps``.

    Raises:
        ValueError: a milestone outside 0 to 1, or milestones that do not increase.
    """
    if any(not 0 < m < 1 for m in milestones) or any(a >= b for a, b in pairwise(milestones)):
        raise ValueError(f"milestones={list(milestones)}: increasing fractions of 1 are needed, as [0.5, 0.75]")
    steps = [round(m * total_steps) for m in milestones]
    return LambdaLR(optimizer, lambda step: gamma ** sum(step >= s for s in steps))


def warmup_cosine(optimizer: Optimizer, total_steps: int, warmup: float) -> LambdaLR:
    """Rise linearly to the full rate during the fraction ``warmup`` of the steps, then fall to zero along a cosine.

    Raises:
        ValueError: ``warmup`` outside [0, 1).
    """
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup={warmup}: must be a fraction of the training, at least 0 and below 1")
    rising = round(warmup * total_steps)

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / (rising + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total_steps - rising)))

    return LambdaLR(optimizer, factor)
