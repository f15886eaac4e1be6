"""A sweep on a real Ray cluster of two node processes on this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from efficientconv.runs.directory import RunDirectory
from tests.ports import free_port
from tests.training.conftest import TINY

ROOT = Path(__file__).parents[2]
RAY = Path(sys.executable).parent / "ray"
ENVIRONMENT = os.environ | {
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT),  # where the package is not installed
}


@pytest.fixture
def cluster(tmp_path_factory):
    """Start two nodes of one CPU each; return the address of the head."""
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    address, folder = f"127.0.0.1:{free_port()}", tmp_path_factory.mktemp("ray")
    store = ["--object-store-memory=80000000", "--num-cpus=1", "--disable-usage-stats", "--block"]
    head = [f"--port={address.rpartition(':')[2]}", "--head", "--include-dashboard=false", f"--temp-dir={folder}"]
    nodes = []
    with (folder / "lines").open("w") as lines:
        for words in (head, [f"--address={address}"]):
            command = [str(RAY), "start", *words, *store]
            nodes.append(subprocess.Popen(command, env=ENVIRONMENT, stdout=lines, stderr=lines, start_new_session=True))
        yield address
        for node in reversed(nodes):
            node.terminate()
            node.wait()


@pytest.mark.slow
def test_jobs_on_a_ray_cluster(cluster, tmp_path):
    words = [*TINY, "trainer.max_epochs=1", "seed=0,1,2", "sweep=ray", "launcher=ray"]
    command = [sys.executable, str(ROOT / "train.py"), "-m", *words, f"launcher.ray.init.address={cluster}"]
    ended = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    runs = [RunDirectory(path) for path in (tmp_path / "outputs/sweeps/ray").glob("*/")]
    assert [run.read_summary()["status"] for run in runs] == ["done"] * 3
    assert ended.stdout.count("│ done") == 3
