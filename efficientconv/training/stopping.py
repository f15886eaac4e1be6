"""Stopping where nothing is lost: a signal to stop waits for the end of a step, the same step on all ranks."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch import distributed
from torch.distributed import Work

from efficientconv.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl+C, a cluster's end of time, a closed terminal


class StopRequest:
    """Takes the `SIGNALS` over for a ``with`` block, and keeps them until a place where stopping loses nothing.

    A SIGHUP that is ignored when the block begins stays ignored: that is what ``nohup`` is for. A SIGUSR2 that has a
    handler (submitit's, which puts a preempted job back into SLURM's queue) is taken over too.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._deferred = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        self._previous = {signum: signal.getsignal(signum) for signum in SIGNALS}
        if self._previous[signal.SIGHUP] == signal.SIG_IGN:
            del self._previous[signal.SIGHUP]
        if callable(signal.getsignal(signal.SIGUSR2)):
            self._previous[signal.SIGUSR2] = signal.getsignal(signal.SIGUSR2)
        self.take_signals()
        return self

    def __exit__(self, *exception: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)

    def take_signals(self) -> None:
        """Install the handlers, again where something (Lightning, at the start of a fit) has put its own there."""
        for signum in self._previous:
            signal.signal(signum, self._handle)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None or not self._deferred:
            raise Interrupted(signum)  # asked twice, or nothing is at stake
        self.signum = signum

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within this block the first signal waits for `check`; outside, it stops the run at once."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def check(self) -> None:
        """Stop here if that was asked for.

        Raises:
            Interrupted: a signal has come.
        """
        if self.signum is not None:
            raise Interrupted(self.signum)


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
