"""The network that a run is distilled from: found, checked, and kept with the run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from efficientconv.atomic import replaced_whole
from efficientconv.datasets import ImageData
from efficientconv.errors import UserError
from efficientconv.runs.directory import RunDirectory
from efficientconv.runs.safe_config import safe_config
from efficientconv.training.checkpoints import read_checkpoint
from efficientconv.training.evaluate import compose_network, require_same_classes, restore, trusted_config
from efficientconv.training.warm_start.network import Network, difference_of_images

log = logging.getLogger(__name__)

ORIGINAL = "original"
Nodes = Mapping[str, Any]


def find_teacher(config: Mapping[str, Any], network: Network, data: ImageData, run: RunDirectory) -> nn.Module | None:
    """Return the network that ``teacher`` names, and keep it in the run directory: a run that goes on needs no other.

    Args:
        config: the resolved configuration.
        network: what training begins with.
        data: the data set, set up.
        run: the run that is trained.

    Raises:
        UserError: there is no such network, or it has other classes or was trained on images of another scale.
    """
    source = config.get("teacher")
    if source is None:
        return None
    nodes: Nodes
    if source == ORIGINAL:
        if network.original is None:
            raise UserError(
                "teacher=original: the network before the replacement has no weights here; "
                "init_from=<run, file or pretrained> of such a network gives it some, teacher=<run> takes another one"
            )
        nodes, teacher = {"model": config["model"], "conv": {}}, network.original
    else:
        nodes, teacher = _of_run(RunDirectory(str(source)), config, data)
    _keep(run, nodes, teacher)
    return teacher


def kept_teacher(config: Mapping[str, Any], data: ImageData, run: RunDirectory) -> nn.Module | None:
    """Return the teacher that a run has kept in its directory; None where it has none.

    Raises:
        UserError: it is gone, damaged or not to be trusted.
    """
    if config.get("teacher") is None:
        return None
    kept = read_checkpoint(_file(run))
    nodes = safe_config(kept["nodes"], config.get("allow") or (), str(_file(run)))
    teacher = compose_network(nodes, data.num_classes, data.input_size)
    teacher.load_state_dict(kept["state_dict"])
    return teacher


def _of_run(teacher: RunDirectory, config: Mapping[str, Any], data: ImageData) -> tuple[Nodes, nn.Module]:
    if not teacher.path.is_dir():
        raise UserError(f"teacher={teacher.path}: there is no such run directory; teacher=original is the other choice")
    stored = trusted_config(teacher, config.get("allow") or ())
    _require_same_images(teacher, data)
    network, which = restore(teacher, stored, data.num_classes, data.input_size)
    log.info("teacher=%s (%s weights)", teacher.path, which)
    return {"model": stored["model"], "conv": stored["conv"]}, network


def _require_same_images(teacher: RunDirectory, data: ImageData) -> None:
    summary = teacher.read_summary()
    classes = summary.get("num_classes", data.num_classes)
    if classes != data.num_classes:
        raise UserError(f"teacher={teacher.path}: it knows {classes} classes, this data has {data.num_classes}")
    try:
        require_same_classes(teacher, data.class_names)
    except UserError as error:
        raise UserError(f"teacher={teacher.path}: {error}") from error
    difference = difference_of_images(summary, data)
    if difference:
        raise UserError(f"teacher={teacher.path}: {difference}")


def _file(run: RunDirectory) -> Path:
    return run.checkpoint("teacher")


def _keep(run: RunDirectory, nodes: Nodes, teacher: nn.Module) -> None:
    if run.writable:
        with replaced_whole(_file(run)) as temporary:
            torch.save({"nodes": dict(nodes), "state_dict": teacher.state_dict()}, temporary)
