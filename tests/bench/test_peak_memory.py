import sys

import pytest
import torch

from efficientconv.bench import peak_memory as memory
from efficientconv.bench.peak_memory import peak, reset_peak
from efficientconv.training.malloc import give_back_freed_memory

CPU = torch.device("cpu")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process forget its peak")
def test_the_peak_is_that_since_the_last_look():
    give_back_freed_memory()
    reset_peak(CPU)
    before = peak(CPU)
    large = torch.zeros(100 * 2**20, dtype=torch.uint8)
    del large
    assert peak(CPU) - before > 90 * 2**20
    give_back_freed_memory()  # another test may have told malloc to keep it
    reset_peak(CPU)
    assert peak(CPU) - before < 50 * 2**20


def test_elsewhere_it_is_not_known(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "PROCESS", tmp_path)
    reset_peak(CPU)
    assert peak(CPU) is None
