"""Counting the parameters and MACs of a row's network, without memory for its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

from torch.nn.modules.batchnorm import _BatchNorm

from efficientconv.compose import fold_layers
from efficientconv.messages import one_line
from efficientconv.profiling import complexity
from efficientconv.profiling.tool import build_network
from efficientconv.tables.count.configurations import composed_network, row_error
from efficientconv.tables.load.table import COUNTED, Row, Table


@dataclass(frozen=True)
class Counts:
    """Exact counts of one network: parameters, how many of them are batch norms', and the total by each convention."""

    params: int
    norm_params: int
    totals: Mapping[str, int]


def count_row(table: Table, row: Row) -> dict[str, Any]:
    """Count a row's network.

    Returns:
        ``params`` and ``flops`` as ints, ``convention`` (the row's own or its table's), ``params_without_norms`` where
        the row's parameters exclude those of batch norms, and ``params_saved``, an exact fraction of 100, where the
        table has that column; an empty dictionary for an external row.

    Raises:
        UserError: the row's overrides do not compose or build no network, or the convention is unknown.
    """
    if row.external:
        return {}
    counts = _counts(table, row)
    convention = row.convention or table_convention(table)
    if convention not in counts.totals:
        raise row_error(
            table, row, f"convention {convention!r} is unknown; the conventions are {', '.join(counts.totals)}"
        )
    figures = {"params": counts.params, "flops": counts.totals[convention], "convention": convention}
    if row.without_norms:
        figures["params_without_norms"] = counts.params - counts.norm_params
    if "params_saved" in table.columns:
        other = _counts(table, table.row(str(table.columns["params_saved"].of)))
        figures["params_saved"] = 100 * (1 - Fraction(counts.params, other.params))
    return figures


def table_convention(table: Table) -> str:
    """Return the convention that counts the FLOPs of a table."""
    column = table.columns.get("flops")
    return (column.convention if column else None) or "macs"


def comparable(computed: Mapping[str, Any], name: str) -> Fraction | int:
    """Return the computed figure to compare with the published figure of a column."""
    return computed.get(f"{name}_without_norms", computed[name])


def agreement(table: Table, row: Row, computed: Mapping[str, Any]) -> dict[str, bool]:
    """Tell for each published figure that is counted whether the computed one has the printed digits.

    For a row with ``same_cost_as``, ``params`` and ``flops`` agree where they equal those of the other row.
    """
    counted = [name for name in COUNTED if name in row.figures and computed]
    agrees = {name: row.figures[name].agrees(comparable(computed, name)) for name in counted}
    if row.same_cost_as is not None:
        other = count_row(table, table.row(row.same_cost_as))
        agrees |= {name: computed[name] == other[name] for name in ("params", "flops")}
    return agrees


def _counts(table: Table, row: Row) -> Counts:
    network = json.dumps(composed_network(table, row))
    try:
        return _counts_of(network, table.classes, table.of(row).input_size, row.folded)
    except Exception as error:  # a network's code may raise anything on arguments that do not fit
        raise row_error(table, row, one_line(error)) from error


@cache
def _counts_of(network: str, classes: int, input_size: tuple[int, int, int], folded: bool) -> Counts:
    model = build_network(json.loads(network), classes)
    model = fold_layers(model) if folded else model
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    profile = complexity(model, input_size)
    return Counts(profile.params, sum(p.numel() for norm in norms for p in norm.parameters()), profile.totals)
