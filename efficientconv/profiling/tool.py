"""``efficientconv profile``: the costs of a network, as a tree of its modules and as totals by every convention."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Group
from rich.text import Text
from torch import nn

from efficientconv.compose import ReplacementReport, fold_layers, replace_convs
from efficientconv.config_path import built
from efficientconv.console import console, figures_table
from efficientconv.errors import UserError
from efficientconv.profiling import Profile, complexity
from efficientconv.profiling.meta import QuickMeta


def profile(config: Mapping[str, Any], name: str) -> dict[str, Profile]:
    """Build a network and print its counts side by side: plain, as trained, and folded for deployment.

    Args:
        config: ``configs/profile.yaml`` composed, as plain dictionaries and lists.
        name: title of the network, such as the overrides of the command line that build it.

    Returns:
        The profile ``trained``; before it ``plain``, of the backbone with its own convolutions, where any are replaced;
        after it ``folded``, where folding changes the counts.

    Raises:
        UserError: an invalid value, or a network that does not run on images of this size.
    """
    size, depth = _checked(config)
    plain = build_backbone(config, config["classes"])
    network, report = replace_in(plain, config["conv"])
    try:
        counts = _counts(plain, network, size)
    except ValueError as error:
        raise UserError(str(error)) from error
    screen = console()
    lines = [name, *(report.summary() if report else ()), ""]
    layouts = tree(counts["trained"], depth, screen.width), totals(counts, screen.width)
    screen.print(Group(*map(Text, lines), *layouts), crop=False)
    if config["json"] is not None:
        content = {"network": name} | {key: each.to_dict() for key, each in counts.items()}
        Path(config["json"]).write_text(json.dumps(content, indent=2) + "\n")
    return counts


def _counts(plain: nn.Module, network: nn.Module, size: tuple[int, int, int]) -> dict[str, Profile]:
    counts = {"trained": complexity(network, size)}
    if network is not plain:
        counts = {"plain": complexity(plain, size)} | counts
    folded = complexity(fold_layers(network), size)
    if (folded.totals, folded.params) != (counts["trained"].totals, counts["trained"].params):
        counts["folded"] = folded
    return counts


def build_network(config: Mapping[str, Any], classes: int) -> nn.Module:
    """Build the network of a composed ``model`` and ``conv``, without memory for its weights where possible.

    Raises:
        UserError: ``conv`` can replace no convolution of the network.
    """
    return replace_in(build_backbone(config, classes), config["conv"])[0]


def build_backbone(config: Mapping[str, Any], classes: int) -> nn.Module:
    """Build the network of a composed ``model``, without memory for its weights where possible."""
    backbone = built("model", config["model"])
    try:
        with torch.device("meta"), QuickMeta():
            return backbone(num_classes=classes)
    except NotImplementedError:  # the constructor reads weights, as torchvision's RegNets do
        return backbone(num_classes=classes)


def replace_in(model: nn.Module, conv: Mapping[str, Any]) -> tuple[nn.Module, ReplacementReport | None]:
    """Put the layers of a composed ``conv`` into a copy of ``model``; where there are none, return ``model`` itself.

    Raises:
        UserError: ``conv`` can replace no convolution of the network.
    """
    conv = built("conv", conv)
    if conv["layer"] is None and not conv["units"]:
        return model, None
    with QuickMeta():
        return replace_convs(model, conv["layer"], conv["where"], units=conv["units"])


def _checked(config: Mapping[str, Any]) -> tuple[tuple[int, int, int], int | None]:
    size, depth = config["input_size"], config["depth"]
    if not isinstance(size, list) or len(size) != 3 or not all(isinstance(n, int) and n > 0 for n in size):
        raise UserError(f"input_size={size}: must be channels, height and width, as in input_size=[3,224,224]")
    if depth is not None and (not isinstance(depth, int) or depth < 0):
        raise UserError(f"depth={depth}: must be a whole number of at least 0, or null for all levels")
    return (size[0], size[1], size[2]), depth


def tree(network: Profile, depth: int | None, width: int) -> Group:
    """Lay out the modules down to ``depth`` levels below the network; each row includes the modules inside it."""
    rows = []
    for name, module in network.modules.items():
        level = name.count(".") + 1 if name else 0
        if depth is None or level <= depth:
            share = f"{module.macs / network.macs:.1%}" if network.macs else ""
            counts = (f"{module.params:,}", f"{module.macs:,}", share, f"{module.activations:,}")
            indented = f"{'  ' * level}{name.rpartition('.')[2]} " if name else ""
            rows.append([Text.assemble(indented, (module.kind, "dim")), *map(Text, counts)])
    size = "×".join(map(str, network.input_size))
    title = f"{size}: {network.params:,} params, {network.macs:,} MACs"
    headers = ("module", "params", "MACs", "of all", "activations")
    return Group(title, "", figures_table(headers, rows, width), "")


def totals(profiles: Mapping[str, Profile], width: int) -> Group:
    """Lay out the totals by every convention: a column for each profile, under its name."""
    columns = profiles.values()
    rows = {
        "params": [each.params for each in columns],
        "trainable": [each.trainable_params for each in columns],
    }
    rows |= {name: [each.totals[name] for each in columns] for name in profiles["trained"].totals}
    rows["peak activations, bytes"] = [each.peak_activation_bytes for each in columns]
    texts = [[Text(name), *(Text(f"{count:,}") for count in counts)] for name, counts in rows.items()]
    title = "by convention; efficientconv profile --help tells them apart"
    return Group(title, "", figures_table(("total", *profiles), texts, width), "")
