"""This process: which of several it is, as torchrun's or SLURM's environment says, and what it has; imports no torch.

`srun` says so of every step, of one task too, so only several count; the script of a batch job is no step.
"""

from __future__ import annotations

import os
import sys


def by_torchrun() -> bool:
    """Tell whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def by_srun() -> bool:
    """Tell whether srun has started this process, as one of several tasks."""
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1


def started_outside() -> bool:
    """Tell whether this process is one that torchrun or srun has started for one run."""
    return by_torchrun() or by_srun()


def global_rank() -> int:
    """Return this process's number among all of a run that was started outside; 0 in any other."""
    if by_torchrun():
        return int(os.environ["RANK"])
    return int(os.environ["SLURM_PROCID"]) if by_srun() else 0


def cpu_cores() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def import_from_here() -> None:
    """Let a user's own modules be imported from the current folder, after all that is installed.

    Python does so by itself for ``python -m``, and for a script only where that lies in the folder.
    """
    here = os.getcwd()
    if here not in sys.path and not getattr(sys.flags, "safe_path", False):
        sys.path.append(here)


def python_path() -> str:
    """Return the PYTHONPATH with which a process imports what this one can, a checkout that is not installed too."""
    return os.pathsep.join(filter(None, sys.path))


def devices_and_nodes() -> tuple[int, int]:
    """Return how many processes there are on each machine, and how many machines, of a run started outside."""
    if by_torchrun():
        count = int(os.environ["LOCAL_WORLD_SIZE"])
        return count, int(os.environ["WORLD_SIZE"]) // count
    nodes = int(os.environ.get("SLURM_STEP_NUM_NODES", "1"))
    return int(os.environ["SLURM_STEP_NUM_TASKS"]) // nodes, nodes


def agreed(text: str) -> str:
    """Return one text in all processes of a run: that of whichever is first; ``text`` where there is one process.

    Under SLURM it is made of the numbers of the job and its step, so that no process has to wait for another.
    """
    if by_srun() and not by_torchrun():
        numbers = (os.environ.get(name) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT"))
        return "-".join(["slurm", *filter(None, numbers)])
    if not by_torchrun():
        return text
    return _first_said("directory", text)


def is_first_to_fail() -> bool:
    """Tell whether no other process of this run has asked this before: one says what is wrong, for all."""
    return not by_torchrun() or _first_said("failure", str(global_rank())) == str(global_rank())


def _first_said(key: str, text: str) -> str:
    """Keep a text with torchrun, unless another process has done so before; return what is kept there."""
    from torch.distributed import rendezvous

    store, _, _ = next(iter(rendezvous("env://")))
    return store.compare_set(f"efficientconv/{key}", "", text).decode()
