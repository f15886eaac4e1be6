"""``efficientconv bench``: measures loaders or training steps, prints a table, and writes JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning.pytorch import Trainer
from omegaconf import OmegaConf
from rich.table import Table

from efficientconv.bench.loader import measure_loaders
from efficientconv.bench.rounds import Rounds, spread
from efficientconv.bench.step import REAL, Steps, measure_steps
from efficientconv.console import console
from efficientconv.datasets import ImageData
from efficientconv.errors import UserError, require_whole
from efficientconv.training.build import open_data
from efficientconv.training.lightning_patches import silence_lightning
from efficientconv.training.precision import require_possible
from efficientconv.training.provenance import device_name, software

ACTIONS = ("loader", "step")


def bench(config: Mapping[str, Any]) -> dict[str, Any]:
    """Measure, print a table and write the JSON file; return the figures as plain values.

    Args:
        config: ``configs/bench.yaml``, resolved.

    Raises:
        UserError: an unknown action, an invalid number, or a data set that cannot be read.
    """
    for key in sorted(OmegaConf.missing_keys(OmegaConf.create(dict(config)))):
        raise UserError(f"{key} is missing: give it as {key}=<value>")
    action = config["action"]
    if action not in ACTIONS:
        raise UserError(f"efficientconv bench {action or ''}: say what to measure: {' or '.join(ACTIONS)}")
    for name in ("rounds", "images", "steps"):
        require_whole(name, config[name], least=1)
    if not isinstance(config["seconds"], int | float) or config["seconds"] < 0:
        raise UserError(f"seconds={config['seconds']}: must be a number of at least 0")
    silence_lightning()
    require_possible(config["trainer"])
    data = open_data(config["data"])
    device = Trainer(accelerator=config["trainer"]["accelerator"], devices=1, logger=False).strategy.root_device
    figures = _loader(config, data, device) if action == "loader" else _step(config, data)
    figures = {"action": action, "config": dict(config), "device": device_name(device), **software(), **figures}
    if config["json"]:
        Path(config["json"]).write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def _loader(config: Mapping[str, Any], data: ImageData, device: torch.device) -> dict[str, Any]:
    numbers = {"images": config["images"], "rounds": config["rounds"], "seconds": config["seconds"]}
    measured = measure_loaders(data, device, **numbers)
    console().print(loader_table(measured, data, device))
    return {"loaders": measured.to_dict()}


def _step(config: Mapping[str, Any], data: ImageData) -> dict[str, Any]:
    measured = measure_steps(config, data, steps=config["steps"], rounds=config["rounds"])
    console().print(step_table(measured))
    return measured.to_dict()


def loader_table(measured: Rounds, data: ImageData, device: torch.device) -> Table:
    """Lay out the loaders, the fastest first."""
    title = f"{data.title}, {data.input_size[1]} pixels, batches of {data.batch_size} on {device.type}"
    table = Table("loader", f"times {measured.reference}", "images/s", "in all rounds", title=title)
    for name in sorted(measured.rates, key=measured.ratio, reverse=True):
        ratio, rate = f"{measured.ratio(name):.2f}", f"{measured.rate(name):,.0f}"
        table.add_row(name, ratio, rate, spread(measured.rates[name]))
    return table


def step_table(measured: Steps) -> Table:
    """Lay out the two loops."""
    rounds = measured.rounds
    table = Table("", f"times {rounds.reference}", "images/s", "in all rounds", "peak memory")
    for name in rounds.rates:
        bytes_ = measured.peaks[name]
        memory = "" if bytes_ is None else f"{bytes_ / 2**20:,.0f} MiB"
        row = (f"{rounds.ratio(name):.3f}", f"{rounds.rate(name):,.0f}", spread(rounds.rates[name]), memory)
        table.add_row(name, *row)
    if median(measured.overheads) < 0:
        noise = f"lost in the noise of {measured.steps} steps; more steps= or rounds= show it"
        table.caption = f"overhead of {REAL}: {noise}"
        return table
    table.caption = (
        f"overhead of {REAL}: {median(measured.overheads):,.0f} µs a step over {measured.steps} steps, "
        f"of which {median(measured.epoch_ends):,.1f} ms once, at the end of the epoch"
    )
    return table
