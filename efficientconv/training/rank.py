"""One rank of a run on several devices: ``python -m efficientconv.training.rank <run directory> <file for a failure>``.

Started by `efficientconv.training.launch`, which says in ``LOCAL_RANK`` and ``WORLD_SIZE`` which one of how many. The
first rank that fails writes why into the file; for those that fail because of it there is no room.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from threading import Thread

from efficientconv.errors import Interrupted
from efficientconv.messages import one_line
from efficientconv.runs.directory import RunDirectory
from efficientconv.training.lightning_patches import silence_lightning
from efficientconv.training.stopping import StopRequest
from efficientconv.training.train import fit

log = logging.getLogger(__name__)


def main(path: str, failure: Path) -> None:
    """Train as this rank of the run, and end the process with the status that fits."""
    Thread(target=_end_with_parent, daemon=True).start()
    rank, count = int(os.environ["LOCAL_RANK"]), os.environ["WORLD_SIZE"]
    run = RunDirectory(path, writable=rank == 0)
    _start_log(run, rank)
    silence_lightning()
    try:
        with StopRequest() as stop:
            fit(run.read_config(), run, stop)
    except Interrupted as interrupted:
        raise SystemExit(interrupted.exit_code) from None
    except Exception as error:
        log.error("rank %d failed", rank, exc_info=True)
        text = f"rank {rank} of {count}: {one_line(error)}"
        with suppress(FileExistsError), failure.open("x") as file:
            file.write(text)
        sys.stdout.flush()
        os._exit(1)  # at once: an orderly end would wait for the other ranks


def _end_with_parent() -> None:
    """Wait for standard input to end, as it does when the parent has been killed."""
    sys.stdin.read()
    os._exit(1)


def _start_log(run: RunDirectory, rank: int) -> None:
    """Log to train.log: the first rank by itself, and to standard output; the others by their standard error."""
    to_log: logging.Handler = logging.StreamHandler() if rank else logging.FileHandler(run.log_file)
    to_log.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handlers = [to_log]
    if rank == 0:
        handlers.append(logging.StreamHandler(sys.stdout))
        handlers[-1].addFilter(lambda record: record.levelno < logging.ERROR)  # the parent prints the one line
    logging.basicConfig(level=logging.WARNING if rank else logging.INFO, handlers=handlers)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
