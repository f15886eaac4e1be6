"""``efficientconv bench``: measures what the first word says, prints tables, and writes JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile
from typing import Any

import torch
from lightning.pytorch import Trainer
from omegaconf import OmegaConf
from rich.table import Table

from efficientconv.atomic import replaced_whole
from efficientconv.bench import compare, side_by_side
from efficientconv.bench.loader import measure_loaders
from efficientconv.bench.rounds import Rounds, spread
from efficientconv.bench.step import REAL, Steps, measure_steps
from efficientconv.console import console
from efficientconv.datasets import ImageData
from efficientconv.errors import UserError, nearest_first, require_whole
from efficientconv.training.build import open_data
from efficientconv.training.lightning_patches import silence_lightning
from efficientconv.training.malloc import keep_freed_memory
from efficientconv.training.precision import require_possible
from efficientconv.training.provenance import device_name, software
from efficientconv.training.settings import require_device

SIDE_BY_SIDE = {"layer": side_by_side.bench_layers, "model": side_by_side.bench_models}
COMPARE = "compare"
ACTIONS = (*SIDE_BY_SIDE, "step", "loader", COMPARE)
LOADER_SECONDS = 2


def bench(config: Mapping[str, Any]) -> dict[str, Any]:
    """Measure, print tables and write the JSON file; return the figures as plain values.

    Args:
        config: ``configs/bench.yaml``, resolved, with ``choices`` and ``overrides``.

    Raises:
        UserError: an unknown action, an invalid value, a file that cannot be written, or what the action refuses.
    """
    require_sensible(config)
    if config["action"] == COMPARE:
        return _compare(config["files"])
    silence_lightning()
    require_possible(config["trainer"])
    if config["action"] in SIDE_BY_SIDE:
        keep_freed_memory()  # as in training
    with threads(config["threads"]):
        torch.manual_seed(config["seed"])
        device = Trainer(accelerator=config["trainer"]["accelerator"], devices=1, logger=False).strategy.root_device
        figures = _measured(config, device)
        about = {"device": device_name(device), "threads": torch.get_num_threads(), **software()}
    figures = {"action": config["action"], "config": dict(config), **about, **figures}
    if config["json"]:
        with replaced_whole(Path(config["json"])) as temporary:
            temporary.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return figures


def _measured(config: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    if config["action"] in SIDE_BY_SIDE:
        return SIDE_BY_SIDE[config["action"]](config, device)
    data = open_data(config["data"])
    return _loader(config, data, device) if config["action"] == "loader" else _step(config, data)


def require_sensible(config: Mapping[str, Any]) -> None:
    """Refuse what can be refused before anything is measured.

    Raises:
        UserError: names the key and the rule.
    """
    action = config["action"]
    if action not in ACTIONS:
        said = f"nearest first: {nearest_first(str(action), ACTIONS)}" if action else f"one of {', '.join(ACTIONS)}"
        raise UserError(f"efficientconv bench {action or '<what>'}: say what to measure; {said}")
    if action == COMPARE:
        return
    for key in sorted(OmegaConf.missing_keys(OmegaConf.create(dict(config)))):
        raise UserError(f"{key} is missing: give it as {key}=<value>")
    for name in ("rounds", "images", "steps"):
        require_whole(name, config[name], least=1)
    if config["threads"] is not None:
        require_whole("threads", config["threads"], least=1)
    seconds = config["seconds"]
    if seconds is not None and (not isinstance(seconds, int | float) or seconds < 0):
        raise UserError(f"seconds={seconds}: must be a number of at least 0")
    require_device(config["trainer"]["accelerator"])
    if action in SIDE_BY_SIDE:
        side_by_side.require_sensible(config)
    for key, files in (("json", [config["json"]] if config["json"] else []), ("plot", config["plot"])):
        for file in files:
            require_writable(key, file)


def require_writable(key: str, file: Any) -> None:
    """Refuse a file that could not be written after minutes of measuring.

    Raises:
        UserError: it is a directory, or nothing can be written where it is to be.
    """
    path = Path(str(file))
    if path.is_dir():
        raise UserError(f"{key}={file}: is a directory; name a file in it")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"{key}={file}: nothing can be written in {folder} ({error.strerror})") from error


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Let torch take so many threads of the processor in the block; None leaves their number as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _compare(files: list[Any]) -> dict[str, Any]:
    if len(files) != 2:
        given = f"not {len(files)}" if files else "none is given"
        raise UserError(f"efficientconv bench compare: takes two files that json= wrote, {given}")
    found, screen = compare.compare(*(Path(str(file)) for file in files)), console()
    screen.print(compare.layout(found, (str(files[0]), str(files[1])), screen.width), crop=False)
    return found


def _loader(config: Mapping[str, Any], data: ImageData, device: torch.device) -> dict[str, Any]:
    seconds = LOADER_SECONDS if config["seconds"] is None else config["seconds"]
    numbers = {"images": config["images"], "rounds": config["rounds"], "seconds": seconds}
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
    table.caption = f"overhead of {REAL}: {_overhead(measured)}"
    return table


def _overhead(measured: Steps) -> str:
    """Say what a step costs more, where the rounds agree that it costs anything."""
    if measured.overhead is None:
        return f"too short to tell, in {_count(measured)}; more steps= or rounds= show it"
    return (
        f"{measured.overhead:,.0f} µs a step over {measured.steps} steps, "
        f"of which {median(measured.epoch_ends):,.1f} ms once, at the end of the epoch"
    )


def _count(measured: Steps) -> str:
    steps, rounds = measured.steps, len(measured.overheads)
    return f"{rounds} round{'s' * (rounds > 1)} of {steps} step{'s' * (steps > 1)}"
