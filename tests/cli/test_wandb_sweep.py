"""The sweeps for W&B's own agents: the line that an agent would call composes, and trains a run of the agent's name."""

import os
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from efficientconv.config_path import CONFIGS
from efficientconv.runs.directory import RunDirectory
from tests.training.conftest import TINY

pytestmark = pytest.mark.filterwarnings("ignore")  # what silence_lightning keeps from users

FILES = sorted((CONFIGS / "wandb_sweep").glob("*.yaml"))


def agents_line(file: Path) -> list[str]:
    """Return what W&B's agent calls for the first value of every parameter, behind ``/usr/bin/env``."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args  # takes seconds

    sweep = yaml.safe_load(file.read_text())
    first = {
        name: {"value": values.get("values", [values.get("min")])[0]} for name, values in sweep["parameters"].items()
    }
    macros = create_sweep_command_args({"args": first}) | {"interpreter": ["python"], "program": [sweep["program"]]}
    line = []
    for word in create_sweep_command(sweep["command"]):
        name = word[2:-1] if word.startswith("${") else None
        line += [] if name == "env" else macros[name] if name else [word]
    return line


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_agents_line_composes(file):
    python, program, *words = agents_line(file)
    assert (python, program) == ("python", "train.py")
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("train", overrides=words)
    assert "wandb" in config.logger


def test_every_convolution_of_the_grid_is_there():
    grid = yaml.safe_load((CONFIGS / "wandb_sweep" / "conv_seed.yaml").read_text())
    assert {f"{conv}.yaml" for conv in grid["parameters"]["conv"]["values"]} <= set(os.listdir(CONFIGS / "conv"))


@pytest.mark.slow
def test_a_run_that_an_agent_starts_has_the_agents_name(command, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SWEEP_ID", "me/efficientconv/abc")
    monkeypatch.setenv("WANDB_RUN_ID", "agents1d")
    _, _, *words = agents_line(CONFIGS / "wandb_sweep" / "conv_seed.yaml")
    own = [word for word in TINY if not word.startswith("conv=")]
    ended = command("train", *words, *own, "logger.wandb.offline=true", f"run={tmp_path}/run")
    assert (ended.status, RunDirectory(tmp_path / "run").read_summary()["wandb_id"]) == (0, "agents1d"), ended.stderr
    assert ended.stdout.splitlines()[-1].startswith("wandb sync run/wandb/offline-run-")
