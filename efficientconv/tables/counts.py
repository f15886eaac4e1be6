"""What a row's network costs, counted without memory behind its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from efficientconv.compose import replace_convs
from efficientconv.config_path import CONFIGS
from efficientconv.errors import UserError
from efficientconv.layers import ConvVariant
from efficientconv.messages import one_line
from efficientconv.profiling import CONVENTIONS, complexity
from efficientconv.tables.table import COUNTED, TABLES, Row, Table

NETWORK = ("model", "conv")


@dataclass(frozen=True)
class Counts:
    """Exact counts of one network: parameters, those of batch norms among them, and the total by each convention."""

    params: int
    norm_params: int
    totals: Mapping[str, int]


def count_row(table: Table, row: Row) -> dict[str, Any]:
    """Count a row's network in each counted column of its table.

    Returns:
        ``params`` and ``flops`` as ints (``flops`` by the row's own convention or its column's, which ``convention``
        names), ``params_saved`` as a fraction of 100; nothing for a row that is external.

    Raises:
        UserError: the row's overrides do not compose or build no network, or its convention is unknown.
    """
    if row.external:
        return {}
    counts = _counts(table, row)
    found: dict[str, Any] = {"params": counts.params - (counts.norm_params if row.without_norms else 0)}
    column = table.columns.get("flops")
    convention = row.convention or (column.convention if column else "macs") or "macs"
    if convention not in counts.totals:
        raise _wrong(table, row, f"convention {convention!r} is not known; there are {', '.join(counts.totals)}")
    found |= {"flops": counts.totals[convention], "convention": convention}
    if "params_saved" in table.columns:
        other = _counts(table, table.row(str(table.columns["params_saved"].of)))
        found["params_saved"] = 100 * (1 - Fraction(counts.params, other.params))
    return found


def agrees(table: Table, row: Row, computed: Mapping[str, Any]) -> dict[str, bool]:
    """Tell of each counted figure that was published whether the computed one has the same digits."""
    found = {name: row.figures[name].agrees(computed[name]) for name in COUNTED if name in row.figures and computed}
    if row.same_cost_as is not None:
        other = count_row(table, table.row(row.same_cost_as))
        found |= {name: computed[name] == other[name] for name in ("params", "flops")}
    return found


def composed_network(table: Table, row: Row) -> dict[str, Any]:
    """Return the resolved ``model`` and ``conv`` configuration of a row.

    Raises:
        UserError: the overrides do not compose.
    """
    overrides = tuple(word for word in (*table.overrides, *row.overrides) if _group(word) in NETWORK)
    try:
        return json.loads(_composed_network(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise _wrong(table, row, f"{list(overrides)} does not compose: {one_line(error, 'profile')}") from error


def composed(root: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Compose a root configuration as Hydra does on the command line, with ``choices``, as plain dictionaries."""
    GlobalHydra.instance().clear()  # that of the command line's own job, where there is one: it has done its work
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose(root, overrides=list(overrides), return_hydra_config=True)
    choices = dict(config.hydra.runtime.choices)
    plain = {str(key): OmegaConf.to_container(node, resolve=True) for key, node in config.items() if key in NETWORK}
    return plain | {"choices": choices}


def _group(word: str) -> str:
    return word.lstrip("+~").partition("=")[0].partition(".")[0]


def _wrong(table: Table, row: Row, text: str) -> UserError:
    return UserError(f"{TABLES / table.name}.yaml: row {row.name!r}: {text}")


@lru_cache(maxsize=None)
def _composed_network(overrides: tuple[str, ...]) -> str:
    return json.dumps({key: value for key, value in composed("profile", overrides).items() if key in NETWORK})


def _counts(table: Table, row: Row) -> Counts:
    network = json.dumps(composed_network(table, row))
    try:
        return _counts_of(network, table.classes, table.input_size, row.folded)
    except Exception as error:  # whatever a network's code does with arguments that do not fit
        raise _wrong(table, row, one_line(error)) from error


@lru_cache(maxsize=None)
def _counts_of(network: str, classes: int, input_size: tuple[int, int, int], folded: bool) -> Counts:
    model = build_network(json.loads(network), classes)
    model = fold_network(model) if folded else model
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    profile = complexity(model, input_size)
    return Counts(profile.params, sum(p.numel() for norm in norms for p in norm.parameters()), profile.totals)


def build_network(network: Mapping[str, Any], classes: int) -> nn.Module:
    """Build a network on the meta device from its composed ``model`` and ``conv``."""
    with torch.device("meta"):
        model = instantiate(network["model"], _convert_="all")(num_classes=classes)
    conv = instantiate(network["conv"], _convert_="all")
    if conv["layer"] is None and not conv["instead"]:
        return model
    return replace_convs(model, conv["layer"], conv["where"], instead=conv["instead"])[0]


def fold_network(model: nn.Module) -> nn.Module:
    """Fold every convolution variant of a network, and what timm's networks fold themselves."""
    for name, module in list(model.named_modules()):
        if isinstance(module, ConvVariant):
            model.set_submodule(name, module.fold())
    from timm.utils import reparameterize_model

    with torch.device("meta"):
        return reparameterize_model(model)


__all__ = ["CONVENTIONS", "Counts", "agrees", "build_network", "composed", "composed_network", "count_row"]
