import os
import subprocess
import sys
from pathlib import Path

from efficientconv.sweeps.devices import take_gpu, visible_gpus

CODE = """
import sys
from pathlib import Path
from efficientconv.sweeps.devices import take_gpu
folder = Path(sys.argv[1])
print(take_gpu(folder), take_gpu(folder), flush=True)
sys.stdin.read()
"""


def start(folder):
    return subprocess.Popen(
        [sys.executable, "-c", CODE, str(folder)],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "3,GPU-5f2a", "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_each_process_has_a_gpu_in_turn_and_a_new_one_that_of_the_one_that_ended(tmp_path):
    processes = [start(tmp_path) for _ in range(3)]
    found = [process.stdout.readline().split() for process in processes]
    assert all(first == again for first, again in found)
    assert sorted(first for first, _ in found) == ["3", "3", "GPU-5f2a"]
    alone = next(n for n, (first, _) in enumerate(found) if first == "GPU-5f2a")
    processes[alone].communicate()
    processes.append(start(tmp_path))
    assert processes[-1].stdout.readline() == "GPU-5f2a GPU-5f2a\n"
    for process in processes:
        process.communicate()


def test_where_there_is_no_gpu(tmp_path, monkeypatch):
    for told in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", told)
        assert visible_gpus() == []
        assert take_gpu(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_asks_the_driver_where_the_environment_says_nothing(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus() == []
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho 0\necho 1\n")
    driver.chmod(0o755)
    assert visible_gpus() == ["0", "1"]
