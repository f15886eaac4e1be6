"""The machine's limit: the bytes that must move at the speed of a copy, and the multiply-adds at that of a product.

Whichever takes longer is the limit of a layer. Both speeds are measured in the rounds in which the layer is, the copy
with as many bytes as a layer moves: what fits into a cache is copied there too. In a network norms, activations and
additions count as nothing, as if each were a part of the convolution beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from efficientconv.bench.contest import COPY, PRODUCT
from efficientconv.bench.rounds import Rounds, Work
from efficientconv.layers import ConvVariant
from efficientconv.profiling import Profile

SIDES = {"cpu": 1024, "cuda": 8192}
"""Rows and columns of the factors of the product, large enough for the device's full speed."""


@dataclass(frozen=True)
class Need:
    """What one convolution cannot do without.

    Attributes:
        bytes: read and written, each tensor once in a pass.
        macs: multiply-adds.
    """

    bytes: int
    macs: int


@dataclass(frozen=True)
class Elements:
    """How many numbers a convolution takes in and gives out, for one image."""

    taken: int
    given: int


def elements(model: nn.Module, image: Tensor) -> dict[str, Elements]:
    """Return the elements of every convolution and linear layer of a network, by its dotted name.

    A convolution variant is one layer, whatever is inside. ``model`` itself may be a layer; its name is empty.

    Args:
        model: in eval mode.
        image: (1, C, H, W).
    """
    found: dict[str, Elements] = {}
    names = outermost(model)

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        found[names[module]] = Elements(_count(inputs), _count(output))

    handles = [module.register_forward_hook(note) for module in names]
    try:
        with torch.no_grad():
            model(image)
    finally:
        for handle in handles:
            handle.remove()
    return found


def outermost(model: nn.Module) -> dict[nn.Module, str]:
    """Return the convolutions and linear layers of a network, and their names; not those inside of a variant."""
    found: dict[nn.Module, str] = {}
    inside: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if isinstance(module, (ConvVariant, nn.Conv2d, nn.Linear)) and not name.startswith(inside or "\n"):
            found[module] = name
            inside = (*inside, f"{name}." if name else "")
    return found


def _count(tensors: Any) -> int:
    return sum(leaf.numel() for leaf in tree_leaves(tensors) if isinstance(leaf, Tensor))


def needs(profile: Profile, layers: Mapping[str, Elements], images: int, itemsize: int, *, trains: bool) -> list[Need]:
    """Return what each layer of a network needs.

    Forward, a layer reads its input and weights and writes its output. Backward, it reads the output's gradient, and
    its input and weights again, and writes the gradients of both, with twice the multiply-adds.

    Args:
        profile: of the network, in the form that is measured; a layer that it lacks was folded away.
        layers: see `elements`.
        images: in a batch.
        itemsize: bytes of a number.
        trains: whether the backward pass is measured too.
    """
    x, y, w, passes = (3, 2, 3, 3) if trains else (1, 1, 1, 1)
    found = []
    for name, layer in layers.items():
        if name in profile.modules:
            module = profile.modules[name]
            numbers = images * (x * layer.taken + y * layer.given) + w * module.params
            found.append(Need(numbers * itemsize, passes * images * module.macs))
    return found


def machine_works(needed: list[Need], dtype: torch.dtype, device: torch.device) -> dict[str, Work]:
    """Return the copy, of as many bytes as an average layer moves, in units of bytes, and the product, in MACs.

    Args:
        needed: by the layers of the reference.
        dtype: of all numbers.
        device: where they are.
    """
    average = sum(need.bytes for need in needed) / len(needed)
    half = max(1, ceil(average / 2 / dtype.itemsize))
    source, target = (torch.ones(half, dtype=dtype, device=device) for _ in range(2))
    side = SIDES.get(device.type, SIDES["cpu"])
    a, b, c = (torch.ones(side, side, dtype=dtype, device=device) for _ in range(3))
    return {
        COPY: Work(lambda: target.copy_(source), 2 * half * dtype.itemsize),
        PRODUCT: Work(lambda: torch.mm(a, b, out=c), side**3),
    }


def of_limit(rounds: Rounds, contender: str, images: int, needed: list[Need]) -> list[float]:
    """Return the limit over the time that a contender took, round by round: 1 is as fast as the machine can be.

    Args:
        rounds: of the contender and of ``machine_works``.
        contender: which.
        images: that it works on in a call.
        needed: by its layers, which run one after the other.
    """
    found = []
    for rate, copied, multiplied in zip(
        rounds.rates[contender], rounds.rates[COPY], rounds.rates[PRODUCT], strict=True
    ):
        limit = sum(max(need.bytes / copied, need.macs / multiplied) for need in needed)
        found.append(limit * rate / images)
    return found
