"""SIGINT and SIGTERM during training: finish the step, save, and end with the status that the shell expects."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """The user or the system asked the run to stop; not an ``Exception``, so that it also ends a sweep.

    Args:
        signum: the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.exit_code = 128 + signum


class StopRequest:
    """Takes SIGINT and SIGTERM over for a ``with`` block, and keeps them until a place where stopping loses nothing."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._deferred = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        self._previous = {signum: signal.getsignal(signum) for signum in SIGNALS}
        self.take_signals()
        return self

    def __exit__(self, *exception: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)

    def take_signals(self) -> None:
        """Install the handlers, again where something (Lightning, at the start of a fit) has put its own there."""
        for signum in SIGNALS:
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
