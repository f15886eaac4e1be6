"""``efficientconv bench layer``: each layer beside ``nn.Conv2d`` of the same geometry, and beside the machine's limit.

Layers are measured by themselves, and as the convolutions of a whole network: what is fast alone may cost the network
copies. All run in the same rounds on the same images, forward in each form, and forward and backward.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from textwrap import shorten
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn

from efficientconv.bench.contest import Contest, name_of
from efficientconv.bench.forms import TRAINED_FORMS, Placement, compiled, prepare
from efficientconv.bench.machine import elements, machine_works, needs, of_limit
from efficientconv.bench.rounds import Work, interleave_calls
from efficientconv.bench.words import REFERENCE
from efficientconv.compose.build import build_successor
from efficientconv.errors import UserError
from efficientconv.profiling import complexity

SHAPES = {
    "resnet20": ((16, 32), (32, 16), (64, 8)),
    "resnet50": ((64, 56), (128, 28), (256, 14), (512, 7)),
}
"""Channels, height and width of the 3×3 convolutions of the stages."""

FORWARD, BOTH = "forward", "forward + backward"
Started = TypeVar("Started")

LONGEST_REASON = 300
"""Characters of an error's own words: those of a compiler fill pages."""


@dataclass(frozen=True)
class Pace:
    """How long is measured: the rounds, and the seconds that a round gives to each contender."""

    rounds: int
    seconds: float


@dataclass(frozen=True)
class Place:
    """Where convolutions are measured.

    Attributes:
        name: for the table.
        size: channels, height and width of the images.
        images: in a batch.
        placement: of all numbers.
        beside: what the reference is there, in words.
    """

    name: str
    size: tuple[int, int, int]
    images: int
    placement: Placement
    beside: str


@dataclass(frozen=True)
class Candidates:
    """What takes part: networks or single layers by the name of their convolution, and why others do not."""

    modules: Mapping[str, nn.Module]
    left_out: list[str]


def shapes_of(words: Sequence[Any]) -> list[tuple[int, int]]:
    """Return channels and pixels that ``shapes=`` asks for.

    Raises:
        UserError: neither a network's stages nor a shape.
    """
    found: list[tuple[int, int]] = []
    for word in map(str, words):
        shape = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", word)
        if word not in SHAPES and shape is None:
            known = " or ".join(SHAPES)
            raise UserError(f"shapes={word}: must be {known}, for its stages, or <channels>x<pixels>, such as 96x28")
        found += SHAPES[word] if shape is None else [(int(shape[1]), int(shape[2]))]
    return list(dict.fromkeys(found))


def single_layers(convs: Mapping[str, Mapping[str, Any]], channels: int) -> Candidates:
    """Build each convolution in the place of a 3×3 ``nn.Conv2d`` of stride 1, which is the reference.

    Args:
        convs: the configurations, instantiated.
        channels: of input and output.
    """
    plain = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    found: dict[str, nn.Module] = {REFERENCE: plain}
    left_out = []
    for name, conv in convs.items():
        if conv["layer"] is None:
            continue
        try:
            found[name] = build_successor(conv["layer"], plain).module
        except ValueError as error:
            left_out.append(f"{name} with {channels} channels: {error}")
    return Candidates(found, left_out)


class Entrant(NamedTuple):
    """A candidate that runs: what computes, for its costs to be counted, and what is timed."""

    network: nn.Module
    work: Work


def measure_place(place: Place, candidates: Candidates, forms: Sequence[str], pace: Pace) -> list[Contest]:
    """Measure inference in all forms, and forward and backward in those that can be trained.

    A form in which a candidate does not run leaves it out, and adds a line to ``candidates.left_out``.

    Raises:
        UserError: the reference does not run.
    """
    modules, left_out = candidates.modules, candidates.left_out
    trained = [form for form in TRAINED_FORMS if form in forms]
    found = [
        (FORWARD, enter(modules, forms, partial(_infer, place, modules), place.name, left_out)),
        (BOTH, enter(modules, trained, partial(_train, place, modules), place.name, left_out)),
    ]
    return [_contest(place, task, candidates, entrants, pace) for task, entrants in found if entrants]


def enter(
    convs: Iterable[str], forms: Sequence[str], start: Callable[[str, str], Started], place: str, left_out: list[str]
) -> dict[tuple[str, str], Started]:
    """Start every convolution in every form, and note which do not run.

    Args:
        convs: which.
        forms: in which forms.
        start: takes both; it makes one ready and runs it once.
        place: where, for the lines.
        left_out: gains a line for each that does not run.

    Returns:
        What was started, by convolution and form.

    Raises:
        UserError: the reference does not run.
    """
    started = {}
    for conv in convs:
        for form in forms:
            try:
                started[conv, form] = start(conv, form)
            except Exception as error:  # a layer, a compiler or an exporter may raise anything
                line = f"{conv} {form}, {place}: {shorten(str(error), LONGEST_REASON)}"
                if conv == REFERENCE:
                    raise UserError(line) from error
                left_out.append(line)
    return started


def _infer(place: Place, modules: Mapping[str, nn.Module], conv: str, form: str) -> Entrant:
    """Start a forward pass in eval mode."""
    ready = prepare(form, modules[conv], place.size, place.placement)
    images = ready.placement.images(place.images, place.size)
    ready.run(images)
    return Entrant(ready.network, Work(partial(ready.run, images), place.images))


def _train(place: Place, modules: Mapping[str, nn.Module], conv: str, form: str) -> Entrant:
    """Start a forward and a backward pass, down to the images, as a layer within a network has it."""
    network = place.placement.of(modules[conv]).train()
    run = compiled(network) if form == "compiled" else network
    images = place.placement.images(place.images, place.size).requires_grad_()
    upstream = torch.ones_like(run(images))
    inputs = [images, *network.parameters()]

    def call() -> None:
        torch.autograd.grad(run(images), inputs, upstream, allow_unused=True)

    call()
    return Entrant(network, Work(call, place.images))


def _contest(
    place: Place, task: str, candidates: Candidates, entrants: Mapping[tuple[str, str], Entrant], pace: Pace
) -> Contest:
    """Measure all of them, and the machine, in the same rounds."""
    convs, forms = (tuple(dict.fromkeys(names)) for names in zip(*entrants, strict=True))
    image, placement = torch.zeros(1, *place.size), place.placement
    taken = {conv: elements(candidates.modules[conv].eval(), image) for conv in convs}
    profiles = {pair: complexity(entrant.network, place.size) for pair, entrant in entrants.items()}
    needed = {
        (conv, form): needs(profile, taken[conv], place.images, placement.dtype.itemsize, trains=task == BOTH)
        for (conv, form), profile in profiles.items()
    }
    reference = (REFERENCE, forms[0])
    works = {name_of(*pair): entrant.work for pair, entrant in entrants.items()}
    works |= machine_works(needed[reference], placement.dtype, placement.device)
    rounds = interleave_calls(works, name_of(*reference), pace.rounds, pace.seconds, placement.device)
    fractions = {name_of(*pair): of_limit(rounds, name_of(*pair), place.images, need) for pair, need in needed.items()}
    macs = {name_of(*pair): profile.macs for pair, profile in profiles.items()}
    return Contest(place.name, task, place.beside, forms, convs, place.images, rounds, fractions, macs)
