"""Training on several devices: one process for each, a rank, started and watched by the process of the command line.

Lightning's own launcher would run the command line again for each further rank, which in a sweep is the whole sweep,
and where a rank fails it kills everything, the one process that could say why included. Here every rank, the first
too, is a child that reads the run directory's config.yaml. This process only waits, passes signals on, and ends the
others where one has failed, be they stuck in a collective operation or not.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from efficientconv.errors import UserError
from efficientconv.runs.directory import RunDirectory, first_line
from efficientconv.training.stopping import StopRequest

POLL_SECONDS = 0.1
GRACE_SECONDS = 30.0  # for the other ranks to end by themselves once one has failed
SYSTEM_CHOSEN_PORT = 0


def device_count(settings: Mapping[str, Any]) -> int:
    """Return how many devices the trainer's settings ask for on this machine.

    Args:
        settings: ``accelerator`` and ``devices``, as ``configs/trainer/default.yaml`` names them.

    Raises:
        UserError: there are not so many, this is no number of devices, or this process was started as one of several.
    """
    if "LOCAL_RANK" in os.environ:
        raise UserError(
            "LOCAL_RANK is set, as torchrun does: run the command without it, which starts all processes itself"
        )
    accelerator, devices = settings["accelerator"], settings["devices"]
    if devices == 1:
        return 1
    from lightning.pytorch import Trainer  # seconds that a single device, and whoever only watches, need not wait

    from efficientconv.training.lightning_patches import silence_lightning

    silence_lightning()
    try:
        return Trainer(accelerator=accelerator, devices=devices, logger=False, enable_checkpointing=False).num_devices
    except Exception as error:
        wanted = f"trainer.accelerator={accelerator} trainer.devices={devices}"
        raise UserError(f"{wanted}: {first_line(error)}") from error


def run_ranks(run: RunDirectory, count: int, stop: StopRequest) -> None:
    """Train what the run directory's config.yaml says, with ``count`` ranks.

    Raises:
        UserError: a rank failed; says which, and why.
        Interrupted: SIGINT or SIGTERM came, and the ranks have stopped.
    """
    with TemporaryDirectory() as folder:
        failure = Path(folder) / "failure"
        command = [sys.executable, "-m", "efficientconv.training.rank", str(run.path), str(failure)]
        with started(command, count, run) as ranks, stop.deferred():
            statuses = wait(ranks, stop)
        if any(statuses):
            stop.check()
            raise UserError(_reason(statuses, failure))


@contextmanager
def started(command: Sequence[str], count: int, run: RunDirectory) -> Iterator[list[subprocess.Popen]]:
    """Start the command once for each rank, and see to it that none outlives the block.

    Only the first rank prints; what the others have to say goes to the run's log. They are in a session of their own,
    so that a Ctrl+C reaches them once, through this process; and their standard input ends with this process.
    """
    ranks: list[subprocess.Popen] = []
    environment = _environment(count)
    with run.log_file.open("a") as log:
        try:
            for rank in range(count):
                process = subprocess.Popen(
                    command,
                    env=environment | {"LOCAL_RANK": str(rank)},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL if rank else _standard_output(),
                    stderr=log if rank else None,
                    start_new_session=True,
                )
                ranks.append(process)
            yield ranks
        finally:
            for process in ranks:
                process.kill()
                process.communicate()


def _standard_output() -> int | None:
    """Return the file descriptor of ``sys.stdout``, which may be redirected; None, for that of the process, if none."""
    try:
        return sys.stdout.fileno()
    except (AttributeError, OSError):
        return None


def _environment(count: int) -> dict[str, str]:
    """Return this process's environment with what ranks find each other by."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", SYSTEM_CHOSEN_PORT))
        port = free.getsockname()[1]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "WORLD_SIZE": str(count)}
    return dict(os.environ) | meeting | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def wait(ranks: Sequence[subprocess.Popen], stop: StopRequest) -> list[int | None]:
    """Wait until all ranks have ended, or one has failed and the others have had time to.

    Returns:
        The status of each rank, negative where a signal ended it; ``None`` for one that still runs.
    """
    passed_on: int | None = None
    deadline = float("inf")
    while True:
        statuses = [process.poll() for process in ranks]
        if None not in statuses or time.monotonic() > deadline:
            return statuses
        if any(statuses):
            deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
        if stop.signum != passed_on and stop.signum is not None:
            passed_on = stop.signum
            for process in ranks:
                process.send_signal(passed_on)
        time.sleep(POLL_SECONDS)


def _reason(statuses: Sequence[int | None], failure: Path) -> str:
    """Say why a run ended: by the rank that the system killed, else by the one that failed first."""
    for rank, status in enumerate(statuses):
        if status is not None and status < 0:
            return f"rank {rank} of {len(statuses)} was ended by {signal.Signals(-status).name}"
    if failure.exists():
        return failure.read_text()
    rank, status = next((rank, status) for rank, status in enumerate(statuses) if status)
    return f"rank {rank} of {len(statuses)} ended with status {status}"
