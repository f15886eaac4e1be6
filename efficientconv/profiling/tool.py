"""``efficientconv profile``: what a network costs, as a tree of its modules and as totals by every convention."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from rich.console import Group
from rich.text import Text
from torch import nn

from efficientconv.compose import ReplacementReport, fold_layers, replace_convs
from efficientconv.console import console, figures_table
from efficientconv.errors import UserError
from efficientconv.profiling import Profile, complexity


def profile(config: Mapping[str, Any], name: str) -> dict[str, Profile]:
    """Build a network, count it as it trains and as it is deployed, and print both.

    Args:
        config: ``configs/profile.yaml`` composed, as plain dictionaries and lists.
        name: what to call the network, such as the words of the command line that build it.

    Returns:
        The counts ``trained``, and ``folded`` where folding changes them.

    Raises:
        UserError: a value that is not right, or a network that does not run on such images.
    """
    size, depth = _checked(config)
    model, report = _built(config, config["classes"])
    try:
        found = {"trained": complexity(model, size)}
        folded = complexity(fold_layers(model), size)
    except ValueError as error:
        raise UserError(str(error)) from error
    if folded.totals != found["trained"].totals or folded.params != found["trained"].params:
        found["folded"] = folded
    screen = console()
    lines = [name, *(report.summary() if report else ()), ""]
    counts = tree(found["trained"], depth, screen.width), totals(found, screen.width)
    screen.print(Group(*map(Text, lines), *counts), crop=False)
    if config["json"] is not None:
        plain = {"network": name} | {key: each.to_dict() for key, each in found.items()}
        Path(config["json"]).write_text(json.dumps(plain, indent=2) + "\n")
    return found


def build_network(config: Mapping[str, Any], classes: int) -> nn.Module:
    """Build the network of a composed ``model`` and ``conv``, where it can be without memory behind its weights.

    Raises:
        UserError: the convolution fits nowhere in it.
    """
    return _built(config, classes)[0]


def _built(config: Mapping[str, Any], classes: int) -> tuple[nn.Module, ReplacementReport | None]:
    backbone = instantiate(config["model"], _convert_="all")
    try:
        with torch.device("meta"):
            model = backbone(num_classes=classes)
    except NotImplementedError:  # it reads its weights while it is built, as torchvision's RegNets do
        model = backbone(num_classes=classes)
    conv = instantiate(config["conv"], _convert_="all")
    if conv["layer"] is None and not conv["instead"]:
        return model, None
    return replace_convs(model, conv["layer"], conv["where"], instead=conv["instead"])


def _checked(config: Mapping[str, Any]) -> tuple[tuple[int, int, int], int | None]:
    size, depth = config["input_size"], config["depth"]
    if not isinstance(size, list) or len(size) != 3 or not all(isinstance(n, int) and n > 0 for n in size):
        raise UserError(f"input_size={size}: channels, height and width are needed, as in input_size=[3,224,224]")
    if depth is not None and (not isinstance(depth, int) or depth < 0):
        raise UserError(f"depth={depth}: must be a whole number of at least 0, or null for all levels")
    return (size[0], size[1], size[2]), depth


def tree(found: Profile, depth: int | None, width: int) -> Group:
    """Lay out the modules down to ``depth`` levels below the network; each row includes what is below it."""
    rows = []
    for name, module in found.modules.items():
        level = name.count(".") + 1 if name else 0
        if depth is None or level <= depth:
            share = f"{module.macs / found.macs:.1%}" if found.macs else ""
            counts = (f"{module.params:,}", f"{module.macs:,}", share, f"{module.activations:,}")
            indented = f"{'  ' * level}{name.rpartition('.')[2]} " if name else ""
            rows.append([Text.assemble(indented, (module.kind, "dim")), *map(Text, counts)])
    size = "×".join(map(str, found.input_size))
    title = f"{size}: {found.params:,} params, {found.macs:,} MACs"
    headers = ("module", "params", "MACs", "of all", "activations")
    return Group(title, "", figures_table(headers, rows, width), "")


def totals(found: Mapping[str, Profile], width: int) -> Group:
    """Lay out the totals by every convention: as trained, and folded where that differs."""
    rows = {
        "params": [each.params for each in found.values()],
        "trainable": [each.trainable_params for each in found.values()],
    }
    rows |= {name: [each.totals[name] for each in found.values()] for name in found["trained"].totals}
    rows["peak activations, bytes"] = [each.peak_activation_bytes for each in found.values()]
    texts = [[Text(name), *(Text(f"{count:,}") for count in counts)] for name, counts in rows.items()]
    title = "by convention; efficientconv profile --help tells them apart"
    return Group(title, "", figures_table(("total", *found), texts, width), "")
