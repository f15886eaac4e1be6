"""Each job's own GPU, where several jobs run side by side on one machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from filelock import FileLock, Timeout

_held: dict[Path, FileLock] = {}  # a lock goes with the process


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them; imports no torch."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        return [name for name in told.split(",") if name not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    found = subprocess.run(query, capture_output=True, text=True, check=False)
    return found.stdout.split() if found.returncode == 0 else []


def take_gpu(folder: Path) -> str | None:
    """Keep one GPU for this process, the next one in turn for each further process; None where there is no GPU.

    A process stays with its GPU for all its jobs, since CUDA cannot change it; the next process takes the place of one
    that has ended. Must be called before CUDA is used.

    Args:
        folder: that the processes of one sweep on this machine share.
    """
    if folder in _held:
        return os.environ["CUDA_VISIBLE_DEVICES"]
    gpus = visible_gpus()
    if not gpus:
        return None
    place = _free_place(folder)
    os.environ["CUDA_VISIBLE_DEVICES"] = gpus[place % len(gpus)]
    return os.environ["CUDA_VISIBLE_DEVICES"]


def _free_place(folder: Path) -> int:
    """Take the first place that no other process holds; the system frees it when this process ends."""
    place = 0
    while True:
        lock = FileLock(folder / f"place-{place}.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            place += 1
            continue
        _held[folder] = lock
        return place
