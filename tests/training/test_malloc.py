import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAULTS = """
import resource, sys
from efficientconv.training.malloc import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
faults = []
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(b"x" * (50 * 2**20))
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(faults[-1])
"""


def faults(argument):
    words = [sys.executable, "-c", FAULTS, argument]
    return int(subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_memory_that_is_freed_is_used_again():
    assert faults("no") > 10 * faults("keep")


def test_without_glibc_nothing_happens(monkeypatch):
    from efficientconv.training import malloc

    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(malloc.ctypes, "CDLL", missing)
    malloc.keep_freed_memory()
    malloc.give_back_freed_memory()
