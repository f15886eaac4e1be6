import pytest
import torch

from efficientconv.runs.directory import RunDirectory
from efficientconv.training.provenance import device_name
from efficientconv.training.recorder import Recorder, peak_memory


@pytest.mark.parametrize(("threads", "words"), [(1, ", 1 thread"), (2, ", 2 threads")])
def test_the_processor_is_named_with_its_threads(threads, words, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert device_name(torch.device("cpu")).endswith(words)


def test_the_device_in_use_is_named_and_measured_not_the_first(tmp_path, monkeypatch):
    """On a machine with one device or none, the index that torch is asked for."""
    asked = []
    for question in ("get_device_name", "reset_peak_memory_stats", "max_memory_allocated"):
        monkeypatch.setattr(torch.cuda, question, lambda device, question=question: asked.append((question, device)))

    class Strategy:
        root_device = torch.device("cuda", 1)

    class Trainer:
        world_size = 1
        strategy, num_devices = Strategy, 1

    recorder = Recorder(RunDirectory(tmp_path))
    recorder.setup(Trainer, None, "fit")
    peak_memory(recorder.device)
    questions = ("reset_peak_memory_stats", "get_device_name", "max_memory_allocated")
    assert asked == [(question, torch.device("cuda", 1)) for question in questions]
