"""Training on several devices: one process for each, a rank.

Where torchrun or srun has started this process, it is a rank already (`efficientconv.processes`), and nothing is
started here. Else the process of the command line starts and watches the ranks of this machine. torchrun's own
interface (``torch.distributed.launcher.api.elastic_launch``) would do that too, but

- it ends ranks 30 seconds after a signal, saved or not; these have the time that their step and checkpoint take;
- its ranks live on where it is killed; the standard input of these ends then, and so do they;
- it needs torch in the process that only waits.

Lightning's launcher would run the command line again for each further rank, which in a sweep is the whole sweep, and
where a rank fails it kills everything, the one process that could say why included. Here every rank, the first too, is
a child that reads the run directory's config.yaml (``python -m efficientconv.training.ddp <run directory> <file for a
failure>``). The first one that fails writes why into the file; for those that fail because of it there is no room.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TYPE_CHECKING, Any

from efficientconv.errors import Interrupted, UserError, first_line
from efficientconv.messages import one_line
from efficientconv.processes import by_srun, by_torchrun, cpu_cores, devices_and_nodes, python_path
from efficientconv.runs.directory import RunDirectory
from efficientconv.training.stopping import StopRequest

if TYPE_CHECKING:
    from lightning.pytorch.plugins.environments import ClusterEnvironment

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1
GRACE_SECONDS = 30.0  # for the other ranks to end by themselves once one has failed
SYSTEM_CHOSEN_PORT = 0


def device_count(settings: Mapping[str, Any]) -> int:
    """Return how many devices the trainer's settings ask for on this machine.

    Args:
        settings: ``accelerator`` and ``devices``, as ``configs/trainer/default.yaml`` names them.

    Raises:
        UserError: there are not so many, this is no number of devices, or they are on several machines.
    """
    accelerator, devices = settings["accelerator"], settings["devices"]
    if settings.get("num_nodes", 1) != 1:
        raise UserError(
            f"trainer.num_nodes={settings['num_nodes']}: one command starts the processes of one machine; on several, "
            "torchrun --nnodes=... --nproc_per_node=... train.py ... or srun python train.py ... starts them, and says "
            "how many there are: leave trainer.num_nodes and trainer.devices out there"
        )
    if devices == 1:
        return 1
    from lightning.pytorch import Trainer  # seconds that a single device, and whoever only watches, need not wait

    from efficientconv.training.lightning_patches import silence_lightning

    silence_lightning()
    wanted = f"trainer.accelerator={accelerator} trainer.devices={devices}"
    try:
        trainer = Trainer(accelerator=accelerator, devices=devices, logger=False, enable_checkpointing=False)
    except Exception as error:
        raise UserError(
            f"{wanted}: must be a number of devices, a list of some, or auto; {first_line(error)}"
        ) from error
    cores = cpu_cores()
    if trainer.strategy.root_device.type == "cpu" and trainer.num_devices > cores:
        raise UserError(f"{wanted}: this machine has {cores} CPU cores, and a process for each is the most")
    return trainer.num_devices


def as_started(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with the devices and machines that torchrun or srun has started processes for.

    Raises:
        UserError: it asks for another number of them.
    """
    devices, nodes = devices_and_nodes()
    asked = {name: config["trainer"].get(name, 1) for name in ("devices", "num_nodes")}
    for name, count in (("devices", devices), ("num_nodes", nodes)):
        if asked[name] not in (1, "auto", count):
            raise UserError(f"trainer.{name}={asked[name]}: {count} were started; leave trainer.{name} out")
    trainer = dict(config["trainer"]) | {"devices": devices} | ({"num_nodes": nodes} if nodes > 1 else {})
    return {**config, "trainer": trainer}


def cluster_environment() -> ClusterEnvironment:
    """Return how Lightning finds out which rank this process is: by whoever has started it."""
    from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment

    if by_torchrun():
        return TorchElasticEnvironment()
    return SLURMEnvironment(auto_requeue=False) if by_srun() else LightningEnvironment()


def run_ranks(run: RunDirectory, count: int, stop: StopRequest) -> None:
    """Train what the run directory's config.yaml says, with ``count`` ranks.

    Raises:
        UserError: a rank failed; says which, and why.
        Interrupted: SIGINT or SIGTERM came, and the ranks have stopped.
    """
    with TemporaryDirectory() as folder:
        failure = Path(folder) / "failure"
        command = [sys.executable, "-m", "efficientconv.training.ddp", str(run.path), str(failure)]
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
    """Return the file descriptor of ``sys.stdout``, which may be redirected; ``None``, as inherited, if it has none."""
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
    return dict(os.environ) | meeting | {"PYTHONPATH": python_path()}


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
                process.terminate()  # whatever the signal: one that still starts ends without a traceback
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


# -- in a rank ---------------------------------------------------------------------------------------------------------


def train_as_rank(path: str, failure: Path) -> None:
    """Train as this rank of the run, and end the process with the status that fits."""
    from efficientconv.training.lightning_patches import silence_lightning
    from efficientconv.training.train import fit

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
        handlers[-1].setFormatter(logging.Formatter("%(message)s"))
        handlers[-1].addFilter(lambda record: record.levelno < logging.ERROR)  # the parent prints the one line
    logging.basicConfig(level=logging.WARNING if rank else logging.INFO, handlers=handlers)


if __name__ == "__main__":
    train_as_rank(sys.argv[1], Path(sys.argv[2]))
