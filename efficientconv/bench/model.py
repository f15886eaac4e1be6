"""``efficientconv bench model``: whole networks with each convolution, in the forms in which they are used.

For each size of batch one contest of all networks in all forms, and one of a training step: loss, penalty, backward
pass and optimizer. All in the same rounds, on the same images, beside the network with its own convolutions.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from efficientconv.bench.contest import Contest, name_of
from efficientconv.bench.forms import TORCH_FORMS, TRAINED_FORMS, Placement, Ready, compiled, prepare
from efficientconv.bench.layer import Entrant, Pace, enter
from efficientconv.bench.peak_memory import peak, reset_peak
from efficientconv.bench.rounds import Work, interleave_calls
from efficientconv.bench.words import REFERENCE
from efficientconv.layers import regularization_loss
from efficientconv.layers.cpu_forms import keep_to_memory
from efficientconv.profiling import complexity
from efficientconv.training.malloc import give_back_freed_memory, keep_freed_memory

INFERENCE, TRAINING = "inference", "training"


@dataclass(frozen=True)
class Network:
    """A network with one convolution in it.

    Attributes:
        module: float32, on the CPU.
        placement: how it is stored to be measured.
        regularization_weight: factor of its layers' penalties in the loss.
    """

    module: nn.Module
    placement: Placement
    regularization_weight: float


@dataclass(frozen=True)
class Questions:
    """What is measured of the networks.

    Attributes:
        name: of the network, for the table.
        size: channels, height and width of the images.
        classes: number of logits.
        forms: in which they infer.
        batches: of how many images.
        training: images in a training step; None measures none.
        pace: how long.
    """

    name: str
    size: tuple[int, int, int]
    classes: int
    forms: tuple[str, ...]
    batches: tuple[int, ...]
    training: int | None
    pace: Pace


def measure_models(networks: Mapping[str, Network], asked: Questions, left_out: list[str]) -> Iterator[Contest]:
    """Measure inference at every size of batch, and training; yield each contest when it is over.

    Args:
        networks: by the name of their convolution; the reference is one of them.
        asked: what to measure.
        left_out: gains a line for each network that does not run in a form.

    Raises:
        UserError: the reference does not run.
    """

    def ready(conv: str, form: str) -> Ready:
        network = networks[conv]
        found = prepare(form, network.module, asked.size, network.placement)
        found.run(found.placement.images(asked.batches[0], asked.size))
        return found

    prepared = enter(networks, asked.forms, ready, asked.name, left_out)
    for images in asked.batches:
        entrants = {pair: _inferring(each, images, asked.size) for pair, each in prepared.items()}
        yield _contest(entrants, asked, INFERENCE, images, networks, shows_peak=images == max(asked.batches))
    if asked.training:
        step = partial(_training, networks, asked, asked.training)
        forms = [form for form in TRAINED_FORMS if form in asked.forms] or ["eager"]
        entrants = enter(networks, forms, step, f"{asked.name}, training", left_out)
        yield _contest(entrants, asked, TRAINING, asked.training, networks, shows_peak=True)


def _inferring(ready: Ready, images: int, size: tuple[int, int, int]) -> Entrant:
    return Entrant(ready.network, Work(partial(ready.run, ready.placement.images(images, size)), images))


def _training(networks: Mapping[str, Network], asked: Questions, count: int, conv: str, form: str) -> Entrant:
    """Start training steps that leave the weights as they are: a rate of zero costs as much as another."""
    network = networks[conv]
    model, weight = network.placement.of(network.module).train(), network.regularization_weight
    keep_to_memory(model)
    run: Callable = compiled(model) if form == "compiled" else model
    images = network.placement.images(count, asked.size)
    labels = torch.arange(count, device=images.device) % asked.classes
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)

    def step() -> None:
        loss = F.cross_entropy(run(images), labels)
        if weight:
            loss = loss + weight * regularization_loss(model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    step()
    return Entrant(model, Work(step, count))


def _contest(
    entrants: Mapping[tuple[str, str], Entrant],
    asked: Questions,
    task: str,
    images: int,
    networks: Mapping[str, Network],
    *,
    shows_peak: bool,
) -> Contest:
    convs, forms = (tuple(dict.fromkeys(names)) for names in zip(*entrants, strict=True))
    device = networks[REFERENCE].placement.device
    works = {name_of(*pair): entrant.work for pair, entrant in entrants.items()}
    rounds = interleave_calls(works, name_of(REFERENCE, forms[0]), asked.pace.rounds, asked.pace.seconds, device)
    macs = {name_of(*pair): complexity(entrant.network, asked.size).macs for pair, entrant in entrants.items()}
    measured = {pair: entrant for pair, entrant in entrants.items() if shows_peak and pair[1] in TORCH_FORMS}
    peaks = {name_of(*pair): added_at_peak(entrant.work.call, device) for pair, entrant in measured.items()}
    keep_freed_memory()  # again, for what is measured next
    place = f"{asked.name}, {images} image{'' if images == 1 else 's'} at once"
    return Contest(place, task, REFERENCE, forms, convs, images, rounds, macs=macs, peaks=peaks)


def added_at_peak(call: Callable[[], object], device: torch.device) -> int | None:
    """Return the bytes that a call adds to the memory in use, at its peak; None where the system does not tell."""
    gc.collect()
    give_back_freed_memory()
    reset_peak(device)
    before = peak(device)
    call()
    after = peak(device)
    return None if before is None or after is None else after - before


def formats_of(networks: Sequence[Network]) -> str:
    """Name the memory formats of some networks: ``NHWC``, ``NCHW`` or both."""
    formats = dict.fromkeys(network.placement.memory_format for network in networks)
    return " or ".join("NHWC" if each == torch.channels_last else "NCHW" for each in formats)
