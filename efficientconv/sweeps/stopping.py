"""A signal to a sweep ends its jobs where nothing is lost: each saves its checkpoint first."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from efficientconv.errors import Interrupted
from efficientconv.sweeps.outcomes import Outcomes

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_SECONDS = 120.0
POLL_SECONDS = 0.1


@contextmanager
def jobs_stopped_by_signals(outcomes: Outcomes) -> Iterator[None]:
    """Within this block a signal stops the jobs, waits until they have saved, and ends the sweep; a second one at once.

    Raises:
        Interrupted: a signal came.
    """

    def stop(signum: int, frame: FrameType | None) -> None:
        if not outcomes.stopped and outcomes.folder.is_dir():
            log.info("stopping: the running jobs save first; again to stop at once")
            outcomes.stop()
            _wait_until_quiet(outcomes)
        raise interrupted(signum)

    previous = {signum: signal.getsignal(signum) for signum in SIGNALS}
    for signum, handler in previous.items():
        if handler != signal.SIG_IGN:
            signal.signal(signum, stop)
    try:
        yield
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)


def interrupted(signum: int) -> Interrupted:
    """Return what ends a sweep after a signal."""
    error = Interrupted(signum)
    error.going_on = "the same command line"
    return error


def _wait_until_quiet(outcomes: Outcomes) -> None:
    deadline = time.monotonic() + GRACE_SECONDS
    while outcomes.processes() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
