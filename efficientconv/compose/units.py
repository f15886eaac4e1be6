"""The parts of a model that can be replaced: convolutions, depthwise-separable units and projections."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from efficientconv.compose.build import Factory, Unit
from efficientconv.compose.graph import Graph
from efficientconv.compose.where import Where, group_kind
from efficientconv.layers import ConvVariant, DepthwiseSeparableConv2d

UNIT_KINDS = ("depthwise_separable", "projection")
END_KINDS = ("first", "last")


@dataclass(frozen=True)
class Place:
    """A unit in a model: the module, its dotted names, and its role in the graph.

    Attributes:
        names: dotted names of the module, several where it is shared.
        unit: the module.
        is_stem: whether it sees the image through nothing but norms and element-wise operations.
        is_projection: whether it is the dense 1×1 behind a depthwise convolution.
        obstacle: why no layer can replace the unit; empty where one can.
    """

    names: tuple[str, ...]
    unit: Unit
    is_stem: bool
    is_projection: bool
    obstacle: str

    @property
    def name(self) -> str:
        """The first of the names."""
        return self.names[0]

    def is_a(self, kind: str) -> bool:
        """Tell whether this is a unit of ``kind``, one of ``UNIT_KINDS``."""
        return self.is_projection if kind == "projection" else isinstance(self.unit, DepthwiseSeparableConv2d)

    def is_selected(self, where: Where) -> bool:
        """Tell whether ``where`` selects it as a convolution."""
        return isinstance(self.unit, nn.Conv2d) and where.selects(self.unit, self.names, self.is_stem)


@dataclass(frozen=True)
class Job:
    """A unit to replace, and the factory of the new layer.

    Attributes:
        place: the unit.
        factory: builds the new layer.
        selected_as: ``convolution``, one of ``END_KINDS`` or one of ``UNIT_KINDS``.
    """

    place: Place
    factory: Factory
    selected_as: str


Assignment = Callable[[Where], list[Job]]


def assign(places: list[Place], layer: Factory | None, units: Mapping[str, Factory], where: Where) -> list[Job]:
    """List the units that ``where`` selects, each with its layer; see :func:`~efficientconv.compose.replace_convs`.

    In a model with units of the kinds in ``units`` these units are chosen, by the names and ``min_channels`` of
    ``where``; in any other model, the convolutions that the whole of ``where`` selects.
    """
    kinds = [kind for kind in units if kind in UNIT_KINDS]
    special = [Job(place, units[kind], kind) for place in places for kind in kinds if place.is_a(kind)]
    if special:
        return [job for job in special if where.selects_place(job.place.unit, job.place.names)]
    return [Job(place, layer, "convolution") for place in places if layer is not None and place.is_selected(where)]


def with_ends(jobs: list[Job], graph: Graph, units: Mapping[str, Factory]) -> list[Job]:
    """Give the first and the last of the selected convolutions the layers that ``units`` has for these kinds.

    The first are fed by no other selected convolution; the last feed no other.
    """
    names = {job.place.name for job in jobs if job.selected_as == "convolution"}
    end_of = {name: end for end, members in zip(END_KINDS, graph.ends(names), strict=True) for name in members}
    return [_at_end(job, end_of.get(job.place.name, ""), units) for job in jobs]


def _at_end(job: Job, end: str, units: Mapping[str, Factory]) -> Job:
    return Job(job.place, units[end], end) if end in units else job


def find_places(model: nn.Module, graph: Graph) -> list[Place]:
    """List the units of ``model`` in the order in which they run, without the convolutions inside a variant."""
    names_of: dict[Any, list[str]] = defaultdict(list)
    for name, module in _named_units(model):
        names_of[module].append(name)
    owners = _owners(model)
    places = [_place(tuple(names), unit, graph, owners) for unit, names in names_of.items()]
    return sorted(places, key=lambda place: graph.order.get(place.name, len(graph.order)))


def kind(place: Place) -> str:
    """Return groups and kernel of a unit in words: ``dense 3×3``, ``dense 7×7 (stem)``."""
    height, width = place.unit.kernel_size
    groups = group_kind(place.unit) if isinstance(place.unit, nn.Conv2d) else "depthwise-separable"
    return f"{groups} {height}×{width}" + (" (stem)" if place.is_stem else "")


def describe(unit: Unit) -> str:
    """Return the geometry of a unit, and its class where that is not ``nn.Conv2d``: ``3×3 64→128 /2, 32 groups``."""
    height, width = unit.kernel_size
    text = "" if type(unit) is nn.Conv2d else f"{type(unit).__name__} "
    text += f"{height}×{width} {unit.in_channels}→{unit.out_channels}"
    if unit.stride != (1, 1):
        text += f" /{'×'.join(map(str, dict.fromkeys(unit.stride)))}"
    if unit.dilation != (1, 1):
        text += f", dilation {'×'.join(map(str, dict.fromkeys(unit.dilation)))}"
    return text + (f", {unit.groups} groups" if unit.groups > 1 else "")


def _named_units(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield each unit under each of its names, without ``model`` itself and the modules inside variants."""
    variants: tuple[str, ...] = ()
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, ConvVariant) and not isinstance(module, DepthwiseSeparableConv2d):
            variants += (f"{name}." if name else "",)
        elif name and isinstance(module, (nn.Conv2d, DepthwiseSeparableConv2d)) and not name.startswith(variants):
            yield name, module


def _place(names: tuple[str, ...], unit: Unit, graph: Graph, owners: dict[int, list[str]]) -> Place:
    obstacle = _obstacle(names, unit, graph, owners)
    return Place(names, unit, names[0] in graph.stems, names[0] in graph.projections, obstacle)


def _obstacle(names: tuple[str, ...], unit: Unit, graph: Graph, owners: dict[int, list[str]]) -> str:
    for own, parameter in unit.named_parameters():
        if is_lazy(parameter):
            return "its number of input channels is not known yet; run one batch through the model first"
        others = set(owners[id(parameter)]).difference(f"{name}.{own}" for name in names)
        if others:
            return f"it shares its {own} with {min(others)}"
        if any(f"{name}.{own}" in graph.read_parameters for name in names):
            return f"the model's forward pass reads its {own} itself"
    return ""


def _owners(model: nn.Module) -> dict[int, list[str]]:
    """Map each parameter, by identity, to all its dotted names."""
    owners: dict[int, list[str]] = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners[id(parameter)].append(name)
    return owners
