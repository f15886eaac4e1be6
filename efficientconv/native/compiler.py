"""Compiles a C++ file of this package for the processor at hand, and keeps the result in the user's cache."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

from efficientconv.atomic import replaced_whole

log = logging.getLogger(__name__)

SOURCES = Path(__file__).parent
FLAGS = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC")
SECONDS = 120


@lru_cache(maxsize=1)
def compiler() -> str | None:
    """Return the C++ compiler: ``$CXX``, or the first of c++, g++ and clang++ on the path; None where there is none."""
    named = os.environ.get("CXX")
    return next(filter(None, map(shutil.which, [named] if named else ["c++", "g++", "clang++"])), None)


def compiled(name: str) -> Path:
    """Return the library that ``name``.cpp becomes, from the cache or compiled now.

    Raises:
        OSError: there is no compiler, it cannot be run, or the cache cannot be written.
        subprocess.SubprocessError: it refuses the source, or takes longer than two minutes.
    """
    program = compiler()
    if program is None:
        raise FileNotFoundError("no C++ compiler")
    path = cache() / f"{name}-{_digest(name, program)}.so"
    if not path.exists():
        log.info("compiling %s.cpp for this processor, once", name)
        with replaced_whole(path) as unfinished:
            command = [program, *FLAGS, str(SOURCES / f"{name}.cpp"), "-o", str(unfinished)]
            subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
    return path


def cache() -> Path:
    """Return the folder of compiled libraries: ``efficientconv`` in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "efficientconv"


def _digest(name: str, program: str) -> str:
    """Return what tells one result from another: the sources, the compiler and the processor's instructions."""
    parts = [path.read_bytes() for path in (SOURCES / f"{name}.cpp", *sorted(SOURCES.glob("*.h")))]
    parts += [" ".join((*FLAGS, version(program), _instructions())).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def compiler_version() -> str | None:
    """Return what compiles here, by its own words; None where nothing does, or the environment forbids it."""
    program = compiler()
    if program is None or is_forbidden():
        return None
    try:
        return version(program)
    except (OSError, subprocess.SubprocessError):
        return None


def is_forbidden() -> bool:
    """Tell whether the environment asks for operators of torch alone."""
    return os.environ.get("EFFICIENTCONV_NATIVE") == "0"


@lru_cache(maxsize=2)
def version(program: str) -> str:
    """Return the first line of what a compiler says of itself."""
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True, timeout=SECONDS).stdout
    return said.partition("\n")[0]


def _instructions() -> str:
    """Return which instructions the processor has: a home may be shared by machines that differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())
