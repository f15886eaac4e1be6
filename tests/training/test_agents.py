"""A run on two machines, as far as one machine shows it: two agents of torchrun with a process each, over gloo."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from efficientconv.runs.directory import RunDirectory
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
WORDS = [
    "data=digits",
    "data.train_fraction=0.2",
    "model=resnet20",
    "model.width=0.25",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=6",
]


def agents(folder, *words):
    """Start the agents of two machines that meet at the first one."""
    meeting = ["--nnodes=2", "--nproc_per_node=1", "--master_addr=127.0.0.1", f"--master_port={free_port()}"]
    program = [str(ROOT / "train.py"), *WORDS, "run=run", *words]
    return [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *meeting, f"--node_rank={machine}", *program],
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for machine in (0, 1)
    ]


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def lose(agent):
    """End an agent and its process at once, as a machine that loses its power does."""
    ranks = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
    for process in (agent.pid, *map(int, ranks)):
        os.kill(process, signal.SIGKILL)


def weights(run):
    return torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="asks Linux for the processes of an agent")
def test_a_lost_machine_ends_the_run_with_one_line_and_it_goes_on_to_the_same_weights(tmp_path):
    (tmp_path / "whole").mkdir()
    run, whole = RunDirectory(tmp_path / "run"), RunDirectory(tmp_path / "whole" / "run")
    first, second = agents(tmp_path)
    wait_for(lambda: run.metrics_file.exists() and len(run.read_metrics()) >= 2)
    lose(second)
    stderr = first.communicate(timeout=120)[1]
    second.communicate()
    assert first.returncode != 0
    told = "another process of this run has ended, or can't be reached; the same line with resume=true run="
    assert stderr.count(told) == 1
    assert run.read_summary()["status"] == "failed"
    for folder, words in ((tmp_path, ["resume=true"]), (tmp_path / "whole", [])):
        ended = [(*agent.communicate(timeout=240), agent.returncode) for agent in agents(folder, *words)]
        assert [code for *_, code in ended] == [0, 0], ended
        assert "".join(out for out, *_ in ended).count("python eval.py run=") == 1
    assert len(run.read_metrics()) == 6
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(run)[name], value, rtol=0, atol=0)
