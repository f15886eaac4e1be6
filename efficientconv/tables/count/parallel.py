"""Work on several cores: the processes end when the work is done, fails or is interrupted, or with this process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any, TypeVar

Result = TypeVar("Result")


def in_processes(function: Callable[..., Result], jobs: Sequence[Sequence[Any]], processes: int) -> list[Result]:
    """Call a function with the arguments of each job, in separate processes.

    The first job that fails ends all others, and so does an interruption.

    Args:
        function: importable by name, as its arguments and results must be picklable.
        jobs: the arguments of each call.
        processes: number of processes.

    Returns:
        The results of the calls, in the order of the jobs.
    """
    context = get_context("spawn")
    lifeline, held = context.Pipe(duplex=False)  # nothing is ever sent; it ends when this process ends, or closes it
    with ProcessPoolExecutor(processes, context, _depend_on, (lifeline,)) as pool, lifeline, held:
        calls = [pool.submit(function, *job) for job in jobs]
        for call in as_completed(calls):
            call.result()
        return [call.result() for call in calls]


def _depend_on(lifeline: Connection) -> None:
    """Leave an interruption to the parent process, and end this process when the parent's end of the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with, args=(lifeline,), daemon=True).start()


def _end_with(lifeline: Connection) -> None:
    with suppress(EOFError, OSError):
        lifeline.recv()
    os._exit(1)
