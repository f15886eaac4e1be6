"""The costs of a network: parameters, multiply-adds and activations, in total and by module."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from torch import nn

from efficientconv.profiling.conventions import CONVENTIONS, weight_operators
from efficientconv.profiling.trace import Trace, trace


@dataclass(frozen=True)
class ModuleProfile:
    """The costs of one module with everything inside it; :class:`Profile` describes the fields."""

    name: str
    kind: str
    params: int
    trainable_params: int
    macs: int
    activations: int


@dataclass(frozen=True)
class Profile:
    """The cost of one forward pass in eval mode, for one image.

    Attributes:
        model: name of the model's class.
        input_size: channels, height and width of the image.
        params: number of parameters, each counted once.
        trainable_params: number of parameters that require a gradient.
        macs: multiply-adds of the image with weights: convolutions, linear layers, ``torch.einsum``.
        weight_macs: multiply-adds on weights alone, once a batch, such as composing a kernel; folding saves them.
        activations: number of output elements of the products in ``macs``.
        peak_activation_bytes: peak memory of the image and of everything computed from it, without the weights.
        totals: the count by each convention of :data:`CONVENTIONS`.
        modules: the costs of each module, by dotted name, parents before children; the whole model is ``""``.
    """

    model: str
    input_size: tuple[int, int, int]
    params: int
    trainable_params: int
    macs: int
    weight_macs: int
    activations: int
    peak_activation_bytes: int
    totals: dict[str, int]
    modules: dict[str, ModuleProfile]

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings, lists and dicts, as JSON has them."""
        return asdict(self) | {"input_size": list(self.input_size)}


def complexity(model: nn.Module, input_size: tuple[int, int, int]) -> Profile:
    """Count the costs of ``model`` for one image, without computing any values; the model does not change.

    Args:
        model: any network that takes a batch of images (N, C, H, W).
        input_size: channels, height and width of the image.

    Raises:
        ValueError: ``input_size`` is not three positive numbers, or the model does not run on such an image.
    """
    size = tuple(input_size)
    if len(size) != 3 or any(not isinstance(n, int) or n < 1 for n in size):
        raise ValueError(f"input_size={input_size}: must be channels, height and width, as in (3, 32, 32)")
    recorded = trace(model, size)
    modules = _by_module(model, recorded)
    whole = modules[""]
    return Profile(
        model=whole.kind,
        input_size=size,
        params=whole.params,
        trainable_params=whole.trainable_params,
        macs=whole.macs,
        weight_macs=sum(op.macs for op in recorded.operators if not op.of_image),
        activations=whole.activations,
        peak_activation_bytes=recorded.peak_bytes,
        totals={name: sum(n for _, n in convention(recorded)) for name, convention in CONVENTIONS.items()},
        modules=modules,
    )


def _by_module(model: nn.Module, recorded: Trace) -> dict[str, ModuleProfile]:
    macs = _with_parents(CONVENTIONS["macs"](recorded))
    outputs = _with_parents((op.module, prod(op.output)) for op in weight_operators(recorded))
    params, trainable = (
        _params(model, lambda parameter: True),
        _params(model, lambda parameter: parameter.requires_grad),
    )
    return {
        name: ModuleProfile(name, type(module).__name__, params[name], trainable[name], macs[name], outputs[name])
        for name, module in model.named_modules()
    }


def _params(model: nn.Module, counts: Callable[[nn.Parameter], bool]) -> dict[str, int]:
    """Return for each module the number of parameters inside it for which ``counts`` is true, shared ones once."""
    owned = {
        (ancestor, parameter)
        for path, parameter in model.named_parameters(remove_duplicate=False)
        for ancestor in _ancestors(path.rpartition(".")[0])
        if counts(parameter)
    }
    sizes: dict[str, int] = defaultdict(int)
    for ancestor, parameter in owned:
        sizes[ancestor] += parameter.numel()
    return sizes


def _with_parents(counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    totals: dict[str, int] = defaultdict(int)
    for name, count in counts:
        for ancestor in _ancestors(name):
            totals[ancestor] += count
    return totals


def _ancestors(name: str) -> Iterator[str]:
    yield name
    while name:
        name = name.rpartition(".")[0]
        yield name
