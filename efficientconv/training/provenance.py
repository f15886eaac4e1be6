"""What a figure depends on besides its configuration: versions, device, commit."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from efficientconv.native import compiler_version

PACKAGES = ("efficientconv", "torch", "torchvision", "lightning", "timm", "numpy")


def software() -> dict[str, object]:
    """Return versions and the commit of the code, for summary.json."""
    return {"versions": versions(), "commit": git_commit()}


def versions() -> dict[str, str]:
    """Return the versions of Python, of the packages that decide a result, and of the compiler of layers in C++."""
    found = {"python": platform.python_version()}
    if compiler := compiler_version():
        found["c++"] = compiler
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def device_name(device: torch.device) -> str:
    """Return the name of a CUDA device, else of the processor, with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{platform.processor() or platform.machine()}, {threads} thread{'s' if threads > 1 else ''}"


@cache  # of the code that this process runs, whatever is checked out meanwhile
def git_commit() -> str | None:
    """Return the commit of the checkout this package runs from, marked where files differ from it; else ``None``."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        described = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
        return subprocess.run(described, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
