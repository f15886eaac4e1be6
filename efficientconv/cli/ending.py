"""How a command ends: one line on standard error and an exit code, whatever happens in it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

TRACEBACK = "EFFICIENTCONV_TRACEBACK"
"""Holds what the user has said in HYDRA_FULL_ERROR, for this process and those that a launcher starts."""


def wants_traceback() -> bool:
    """Tell whether the user has asked for tracebacks, with ``HYDRA_FULL_ERROR=1``."""
    return os.environ.setdefault(TRACEBACK, os.environ.get("HYDRA_FULL_ERROR", "")) == "1"


@contextmanager
def one_line_errors(name: str | None = None, words: Sequence[str] = ()) -> Iterator[None]:
    """End the process with one line and the status that fits where something is raised in the block.

    Args:
        name: the tool, whose keys are offered for a mistyped one.
        words: its command line.
    """
    full = wants_traceback()
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted (SIGINT)", file=sys.stderr)
        raise SystemExit(130) from None
    except BaseException as error:
        _end(error, name, words, full)


def _end(error: BaseException, name: str | None, words: Sequence[str], full: bool) -> None:
    from efficientconv.errors import Interrupted
    from efficientconv.messages import one_line

    if isinstance(error, Interrupted):
        print(error.line, file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    if full or not isinstance(error, Exception):
        raise error
    print(one_line(error, name, words), file=sys.stderr)
    raise SystemExit(1) from None
