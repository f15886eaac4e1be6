"""Run directories with the real configuration, and figures that a test chooses."""

import copy
import csv
import json
from functools import cache

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from efficientconv.config_path import CONFIGS
from efficientconv.report.runs import find_runs
from efficientconv.report.table import build_report
from efficientconv.runs.names import split_override

CHOICES = {"model": "resnet20", "conv": "standard", "data": "digits", "recipe": "cosine_cifar", "callbacks": "default"}
COUNTS = {"standard": (272_474, 40_800_000), "bsconv_u": (40_720, 7_250_560)}


@cache
def configuration(*overrides):
    words = [f"{group}={option}" for group, option in CHOICES.items()]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = OmegaConf.to_container(compose("train", overrides=[*words, *overrides]), resolve=True)
    chosen = CHOICES | {key: value for key, value in map(split_override, overrides) if key in CHOICES}
    return config | {"choices": chosen}


class Runs:
    """Writes finished runs below a directory."""

    def __init__(self, root):
        self.root, self.count = root, 0

    def add(self, *overrides, top1=0.9, curve=(0.5, 0.8), **summary):
        """Write one run: the words of its command line, its last accuracy, those of its epochs, other figures."""
        self.count += 1
        directory = self.root / f"run{self.count:02d}"
        directory.mkdir(parents=True)
        config = copy.deepcopy(configuration(*(word for word in overrides if not word.startswith("seed="))))
        config["seed"] = config["data"]["seed"] = next((int(w[5:]) for w in overrides if w.startswith("seed=")), 0)
        params, macs = COUNTS.get(config["choices"]["conv"], (1_000_000, 2_000_000))
        figures = {"top1": top1, "top5": 0.99, "loss": 0.3, "epoch": 30}
        written = {
            "status": "done",
            "seed": config["seed"],
            "overrides": list(overrides),
            "params": params,
            "macs": macs,
            "evaluated_on": "test",
            "devices": 1,
            "last": figures,
            "best": figures | {"top1": top1 + 0.01},
            "images_per_second": 1000.0,
            "device": "x86_64, 1 thread",
            "commit": "0" * 40,
        }
        (directory / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        (directory / "summary.json").write_text(json.dumps(written | summary))
        with (directory / "metrics.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["epoch", "val/top1"], *enumerate([*curve, top1], 1)])
        return directory

    def add_seeds(self, *overrides, top1):
        """Write a run for each accuracy, with the seeds 0, 1, 2, ..."""
        for seed, value in enumerate(top1):
            self.add(*overrides, f"seed={seed}", top1=value)

    def report(self, group_by=(), baseline=None, metric="last"):
        found = find_runs([self.root])
        return build_report(found.runs, group_by, baseline, metric, found.left_out())


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path / "sweep")


@pytest.fixture
def sweep(runs):
    """Two convs of two models, three seeds each, one bit better and one much worse than the baseline."""
    runs.add_seeds("conv=standard", top1=(0.90, 0.91, 0.92))
    runs.add_seeds("conv=bsconv_u", top1=(0.88, 0.90, 0.89))
    runs.add_seeds("model=resnet32", "conv=standard", top1=(0.93, 0.94, 0.95))
    runs.add_seeds("model=resnet32", "conv=bsconv_u", top1=(0.94, 0.96, 0.96))
    return runs
