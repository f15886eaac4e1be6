"""Replacing convolutions: one mechanism for every model and every layer."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from efficientconv.compose import build
from efficientconv.compose.build import Factory, Successor, Unit, build_successor
from efficientconv.compose.explain import all_kept, in_words, name_of, nothing_selected
from efficientconv.compose.graph import Graph
from efficientconv.compose.report import Kept, Replaced, ReplacementReport
from efficientconv.compose.rewire import Rewiring, carry_out, plan_rewiring
from efficientconv.compose.units import (
    END_KINDS,
    UNIT_KINDS,
    Job,
    Place,
    assign,
    describe,
    find_places,
    kind,
    with_ends,
)
from efficientconv.compose.where import Where
from efficientconv.errors import UserError, nearest_first
from efficientconv.layers import penalized_layers
from efficientconv.profiling import Profile, complexity

_CONV_KEYS = ("layer", "where", "units", "regularization_weight", "initialize_from_replaced")


def create_model(
    backbone: Factory,
    conv: Mapping[str, Any],
    num_classes: int,
    input_size: tuple[int, int, int] = (3, 32, 32),
    *,
    begin_near: bool = False,
) -> tuple[nn.Module, ReplacementReport]:
    """Build a network and put a convolution variant into it.

    Args:
        backbone: called as ``backbone(num_classes=…)``.
        conv: ``layer``, ``where`` and ``units`` as :func:`replace_convs` takes them (with neither ``layer`` nor
            ``units`` the network stays as it is), and ``regularization_weight`` and ``initialize_from_replaced``, which
            training reads.
        num_classes: number of logits.
        input_size: channels, height and width of the images, for counting MACs.
        begin_near: see :func:`replace_convs`.

    Raises:
        UserError: an unknown key in ``conv``, or whatever :func:`replace_convs` refuses.
    """
    for key in conv:
        if key not in _CONV_KEYS:
            raise UserError(f"conv.{key}: there is no such key; nearest first: {nearest_first(str(key), _CONV_KEYS)}")
    where = conv.get("where") or Where()
    model = backbone(num_classes=num_classes)
    layer, units = conv.get("layer"), conv.get("units")
    return replace_convs(model, layer, where, units=units, input_size=input_size, begin_near=begin_near)


def replace_convs(
    model: nn.Module,
    layer: Factory | None,
    where: Where = Where(),  # noqa: B008  # frozen
    *,
    units: Mapping[str, Factory] | None = None,
    input_size: tuple[int, int, int] | None = None,
    begin_near: bool = False,
) -> tuple[nn.Module, ReplacementReport]:
    """Return a copy of ``model`` with ``layer`` in place of each convolution that ``where`` selects, and a report.

    The copy keeps the model's class and everything else in it; ``model`` itself does not change. A convolution that the
    layer cannot represent is kept, and the report says why.

    Args:
        model: any network.
        layer: takes ``nn.Conv2d``'s arguments and returns a ``ConvVariant`` or an ``nn.Conv2d``; None for no layer.
        where: selects the convolutions.
        units: layers for particular units, by kind. In a model with units of the kinds ``depthwise_separable`` or
            ``projection``, only these units are replaced, each by the layer of its kind; ``layer`` does not apply, and
            of ``where`` only names and ``min_channels`` do. The layers of the kinds ``first`` and ``last`` replace the
            selected convolutions that no other selected one precedes, or follows; ``layer`` replaces the rest.
        input_size: channels, height and width of an image, for counting MACs; None skips the count.
        begin_near: let each new layer that can begin near the convolution that it replaces, see
            ``ConvVariant.approximate``; the report has the error of each.

    Raises:
        UserError: ``where`` selects no convolution, the layer can represent none of the selected ones, or an argument
            is invalid.
    """
    units = units or {}
    _check(layer, where, units)
    before = _profile(model, input_size)
    new = copy.deepcopy(model)
    graph = Graph(new)
    places = find_places(new, graph)
    jobs = with_ends(assign(places, layer, units, where), graph, units)
    if not jobs and (layer is not None or units):
        raise nothing_selected(new, places, where, partial(assign, places, layer, units))
    swaps, kept = _replace_all(new, graph, jobs, begin_near)
    penalized = set(penalized_layers(new))
    after = _profile(new, input_size)
    report = ReplacementReport(
        model=type(model).__name__,
        rule=_rule(jobs, where),
        replaced=tuple(_replaced(swap, before, after) for swap in swaps),
        kept=tuple(kept),
        others=_others(places, jobs),
        penalties=tuple(name for name, module in new.named_modules() if module in penalized),
        remark=_remark(graph),
        same_architecture=bool(swaps) and all(swap.successor.is_same for swap in swaps),
        params_before=_params(model),
        params_after=_params(new),
        macs_before=before.macs if before else None,
        macs_after=after.macs if after else None,
        errors_of="kernels" if begin_near else None,
    )
    return new, report


@dataclass(frozen=True)
class _Swap:
    """A replacement that was made."""

    name: str
    unit: Unit
    successor: Successor
    rewiring: Rewiring
    error: float | None


def _check(layer: Factory | None, where: Where, units: Mapping[str, Factory]) -> None:
    if not isinstance(where, Where):
        raise UserError(f"conv.where={where!r}: an efficientconv.compose.Where is needed")
    for unit in units:
        if unit not in (*UNIT_KINDS, *END_KINDS):
            near = nearest_first(unit, (*UNIT_KINDS, *END_KINDS))
            raise UserError(f"conv.units.{unit}: there is no such unit; nearest first: {near}")
    factories = {f"units.{unit}": factory for unit, factory in units.items()}
    for key, factory in (factories if layer is None else factories | {"layer": layer}).items():
        if isinstance(factory, nn.Module) or not callable(factory):
            needed = "something to call with nn.Conv2d's arguments is needed (in a config: _partial_: true)"
            raise UserError(f"conv.{key}: a {type(factory).__name__}; {needed}")


def _profile(model: nn.Module, input_size: tuple[int, int, int] | None) -> Profile | None:
    if input_size is None:
        return None
    try:
        return complexity(model, input_size)
    except ValueError as error:
        raise UserError(str(error)) from error


def _replace_all(model: nn.Module, graph: Graph, jobs: Sequence[Job], near: bool) -> tuple[list[_Swap], list[Kept]]:
    outcomes = [_replace(model, graph, job, near) for job in jobs]
    swaps = [outcome for outcome in outcomes if isinstance(outcome, _Swap)]
    kept = [outcome for outcome in outcomes if isinstance(outcome, Kept)]
    if jobs and not swaps:
        raise all_kept(jobs, kept)
    return swaps, kept


def _replace(model: nn.Module, graph: Graph, job: Job, near: bool) -> _Swap | Kept:
    name = job.place.name
    unit: Any = model.get_submodule(name)  # an earlier rewiring may have narrowed it
    try:
        if job.place.obstacle:
            raise ValueError(job.place.obstacle)
        successor = build_successor(job.factory, unit)
        rewiring = _rewire(model, graph, name, successor, unit.out_channels)
    except ValueError as error:
        return Kept(name, describe(unit), str(error))
    for alias in job.place.names:
        model.set_submodule(alias, successor.module)
    return _Swap(name, unit, successor, rewiring, build.begin_near(successor.layer, unit) if near else None)


def _rewire(model: nn.Module, graph: Graph, name: str, successor: Successor, width: int) -> Rewiring:
    channels = successor.layer.out_channels
    if channels == width:
        return Rewiring((), ())
    try:
        rewiring = plan_rewiring(graph, name)
    except ValueError as error:
        raise ValueError(
            f"{type(successor.layer).__name__} outputs {channels} of {width} channels, and {error}; "
            "conv.layer.restore_width=true brings the others back"
        ) from error
    carry_out(model, rewiring, channels)
    return rewiring


def _rule(jobs: Sequence[Job], where: Where) -> str:
    if not jobs:
        return "the convolutions it comes with"
    names = {job.selected_as: name_of(job.factory) for job in jobs}
    if "convolution" in names:
        rest = f"{names.pop('convolution')} for {in_words(where)}"
        return ", ".join([rest, *(f"{layer} for the {end}" for end, layer in names.items())])
    return ", ".join(f"{layer} for each {unit.replace('_', '-')}" for unit, layer in names.items())


def _others(places: Sequence[Place], jobs: Sequence[Job]) -> dict[str, int]:
    """Count the convolutions, by kind, that no job replaces, alone or as a part of a unit."""
    taken = tuple(name for job in jobs for name in job.place.names)
    inside = tuple(f"{name}." for name in taken)
    convs = [place for place in places if isinstance(place.unit, nn.Conv2d)]
    left = [place for place in convs if place.name not in taken and not place.name.startswith(inside)]
    return dict(Counter(map(kind, left)))


def _remark(graph: Graph) -> str:
    if graph.untraceable is None:
        return ""
    return (
        f"The model cannot be traced ({graph.untraceable}): the stem is chosen by its shape, "
        "projections are not known, and no layer can be narrower"
    )


def _replaced(swap: _Swap, before: Profile | None, after: Profile | None) -> Replaced:
    notes = [swap.successor.note]
    if swap.rewiring.norms:
        notes.append("the norm behind it is dropped")
    if swap.rewiring.consumers:
        notes.append("the 1×1 behind it is narrower")
    return Replaced(
        name=swap.name,
        before=describe(swap.unit),
        after=_after(swap),
        note="; ".join(filter(None, notes)),
        dropped=swap.rewiring.norms,
        narrowed=swap.rewiring.consumers,
        params_before=_params(swap.unit),
        params_after=_params(swap.successor.module),
        macs_before=before.modules[swap.name].macs if before else None,
        macs_after=after.modules[swap.name].macs if after else None,
        error=swap.error,
    )


def _after(swap: _Swap) -> str:
    layer = swap.successor.layer
    narrower = layer.out_channels != swap.unit.out_channels
    return type(layer).__name__ + (f" →{layer.out_channels}" if narrower else "")


def _params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
