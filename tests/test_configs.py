"""The catalogue: every option of every group composes with the root configuration, and obeys the house rules."""

from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from efficientconv.config_path import CONFIGS

NOT_OF_HYDRA = "wandb_sweep"  # for agents of W&B's own
OPTIONS = sorted((file.parent.name, file.stem) for file in CONFIGS.glob("*/*.yaml") if file.parent.name != NOT_OF_HYDRA)


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=["-".join(pair) for pair in OPTIONS])
def test_composes(group, option):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("train", overrides=[f"{group}={option}"])
    node = OmegaConf.to_container(config[group], resolve=group != "callbacks") if group in config else {}
    assert isinstance(node, dict)


@pytest.mark.parametrize("file", sorted(CONFIGS.rglob("*.yaml")), ids=lambda file: "-".join(file.parts[-2:]))
def test_is_short_and_commented(file: Path):
    lines = file.read_text().splitlines()
    if "table" not in file.parts and file.parent != CONFIGS:
        assert len(lines) <= 25
    inherits = isinstance(yaml.safe_load(file.read_text()).get("defaults"), list)
    assert lines[0].startswith("#") or inherits


def test_an_experiment_wins_over_the_root():
    for root in ("train", "eval"):
        defaults = yaml.safe_load((CONFIGS / f"{root}.yaml").read_text())["defaults"]
        assert defaults[0] == "_self_"
