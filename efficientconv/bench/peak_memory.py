"""The peak memory since the last reset."""

from __future__ import annotations

from pathlib import Path

import torch

CLEAR_PEAK = "5"  # see proc_pid_clear_refs(5)
PROCESS = Path("/proc/self")


def reset_peak(device: torch.device) -> None:
    """Reset the peak of the CUDA device, else that of this process, which only Linux reports."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif (file := PROCESS / "clear_refs").exists():
        file.write_text(CLEAR_PEAK)


def peak(device: torch.device) -> int | None:
    """Return the peak in bytes since ``reset_peak``; None where the system does not report it."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if not (PROCESS / "clear_refs").exists():
        return None
    lines = (PROCESS / "status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
