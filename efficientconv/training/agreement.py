"""How all ranks of a run do the same at the end of the same step, although clocks and signals are each rank's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import distributed
from torch.distributed import Work


class Agreement:
    """Tells every rank the largest of all ranks' wishes.

    With several ranks wishes are sent without waiting, and heard one call later, when they have long arrived: a step
    waits neither for the slowest rank nor for the device. All ranks must make the same calls.

    Args:
        wishes: how many numbers are sent at a time; 0 is no wish.
    """

    def __init__(self, wishes: int) -> None:
        self.wishes = wishes
        self._group: Any = None
        self._sent = torch.zeros(wishes, dtype=torch.int64)
        self._under_way: Work | None = None

    def open(self) -> None:
        """Connect the ranks, on the CPU, where there are several."""
        if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
            self._group = distributed.new_group(backend="gloo")

    def __call__(self, *wishes: int) -> Sequence[int]:
        """Return what was agreed: on these wishes in a run of one rank, else on those of the call before."""
        if self._group is None:
            return wishes
        agreed = self._hear()
        self._sent = torch.tensor(wishes)
        self._under_way = distributed.all_reduce(
            self._sent, op=distributed.ReduceOp.MAX, group=self._group, async_op=True
        )
        return agreed

    def at_once(self, *wishes: int) -> Sequence[int]:
        """Return what is agreed on these wishes, having waited for all ranks."""
        agreed = self(*wishes)
        return agreed if self._group is None else self._hear()

    def _hear(self) -> Sequence[int]:
        if self._under_way is None:
            return (0,) * self.wishes
        self._under_way.wait()
        self._under_way = None
        return self._sent.tolist()


def of_all_ranks(own: object) -> list:
    """Return every rank's object, in order of rank; all ranks must call it together."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [own]
    gathered: list = [None] * distributed.get_world_size()
    distributed.all_gather_object(gathered, own)
    return gathered
