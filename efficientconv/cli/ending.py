"""How a command ends: one line on standard error and an exit code, whatever happens in it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

TRACEBACK = "EFFICIENTCONV_TRACEBACK"
"""Holds what the user has said in HYDRA_FULL_ERROR, for this process and those that a launcher starts."""


def wants_traceback() -> bool:
    """Tell whether the user has asked for tracebacks, with ``HYDRA_FULL_ERROR=1``."""
    return os.environ.setdefault(TRACEBACK, os.environ.get("HYDRA_FULL_ERROR", "")) == "1"


_interrupted = threading.Event()


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    _interrupted.set()
    raise KeyboardInterrupt


def require_not_interrupted() -> None:
    """Raise KeyboardInterrupt if Ctrl+C came since the command began, and a library swallowed it.

    OmegaConf, Hydra and torch's import have places where what is raised is caught, or turned into another error.
    """
    if _interrupted.is_set():
        raise KeyboardInterrupt


@contextmanager
def _interrupts_remembered() -> Iterator[None]:
    """Remember SIGINT within this block, besides raising KeyboardInterrupt, where Python's own handler would."""
    is_main = threading.current_thread() is threading.main_thread()  # the only one that may set a handler
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # another one's, or ignored
        yield
        return
    _interrupted.clear()
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def one_line_errors(name: str | None = None, words: Sequence[str] = ()) -> Iterator[None]:
    """End the process with one line and the status that fits where something is raised in the block.

    Args:
        name: the tool, whose keys are offered for a mistyped one.
        words: its command line.
    """
    full = wants_traceback()
    try:
        with _interrupts_remembered():
            yield
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) or (isinstance(error, Exception) and _interrupted.is_set()):
            print("interrupted (SIGINT)", file=sys.stderr)
            raise SystemExit(130) from None
        _end(error, name, words, full)


def _end(error: BaseException, name: str | None, words: Sequence[str], full: bool) -> None:
    from efficientconv.errors import Interrupted
    from efficientconv.messages import one_line
    from efficientconv.processes import is_first_to_fail

    if isinstance(error, Interrupted):
        print(error.line, file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    if full or not isinstance(error, Exception):
        raise error
    if is_first_to_fail():
        print(one_line(error, name, words), file=sys.stderr, flush=True)
    raise SystemExit(1) from None
