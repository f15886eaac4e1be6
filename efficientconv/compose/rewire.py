"""Changing a model around a layer that outputs fewer channels than the convolution it replaces.

The model's norm behind the layer is removed, because such a layer ends in its own, and the dense 1×1 convolutions that
take its output are rebuilt narrower. Any other consumer of the output makes the rewiring impossible.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.fx import Node

from efficientconv.compose.build import adds_to_conv2d
from efficientconv.compose.graph import NORMS, Graph, is_dense_1x1, is_norm


@dataclass(frozen=True)
class Rewiring:
    """Names of the norms to remove and of the 1×1 convolutions to narrow."""

    norms: tuple[str, ...]
    consumers: tuple[str, ...]


def plan_rewiring(graph: Graph, name: str) -> Rewiring:
    """Find the norms and the 1×1 convolutions that take the output of the convolution ``name``.

    Raises:
        ValueError: not every consumer, through norm, activation and pooling, is a dense 1×1 convolution.
    """
    if graph.untraceable is not None:
        raise ValueError(f"the model cannot be traced ({graph.untraceable})")
    if not graph.calls(name):
        raise ValueError("the forward pass does not reach it")
    norms: list[str] = []
    consumers: list[str] = []
    for call in graph.calls(name):
        for node in _followers(graph, call):
            (consumers if is_dense_1x1(graph.module(node)) else norms).append(str(node.target))
    return Rewiring(tuple(dict.fromkeys(norms)), tuple(dict.fromkeys(consumers)))


def carry_out(model: nn.Module, rewiring: Rewiring, channels: int) -> None:
    """Remove the norms from ``model`` and rebuild the consumers for ``channels`` input channels."""
    for name in rewiring.norms:
        exchange(model, name, without_norm(model.get_submodule(name)))
    for name in rewiring.consumers:
        exchange(model, name, _narrowed(model.get_submodule(name), channels))


def _followers(graph: Graph, call: Node) -> Iterator[Node]:
    """Follow the paths behind ``call``; yield the norms directly behind it and the 1×1 convolutions at the ends."""
    for user in call.users:
        if isinstance(graph.module(user), NORMS):
            _require_one_call(graph, user)
            yield user
            yield from _paths(graph, user)
        else:
            yield from _ends(graph, user)


def _paths(graph: Graph, node: Node) -> Iterator[Node]:
    if not node.users:
        raise ValueError("nothing takes its output")
    for user in node.users:
        yield from _ends(graph, user)


def _ends(graph: Graph, node: Node) -> Iterator[Node]:
    module = graph.module(node)
    if is_dense_1x1(module) and not adds_to_conv2d(module):
        _require_one_call(graph, node)
        yield node
    elif graph.keeps_channels(node) and not is_norm(module):
        yield from _paths(graph, node)
    else:
        raise ValueError(f"its output goes into {_describe(node, module)}, not into dense 1×1 convolutions alone")


def _require_one_call(graph: Graph, node: Node) -> None:
    if len(graph.calls(str(node.target))) > 1:
        raise ValueError(f"{node.target} behind it is called more than once")


def _describe(node: Node, module: nn.Module | None) -> str:
    if module is not None:
        return f"{node.target} ({type(module).__name__})"
    return "the model's output" if node.op == "output" else f"'{node.name.rstrip('_0123456789')}'"


def exchange(model: nn.Module, name: str, new: nn.Module) -> None:
    """Put ``new`` in the place of the module ``name``, by every name that leads to it."""
    old = model.get_submodule(name)
    for alias, module in list(model.named_modules(remove_duplicate=False)):
        if module is old:
            model.set_submodule(alias, new)


def without_norm(norm: nn.Module) -> nn.Module:
    """Return the activation inside a norm to remove (timm's ``BatchNormAct2d``), or the identity."""
    inside = list(norm.children())
    return nn.Sequential(*inside) if inside else nn.Identity()


def _narrowed(conv: Any, channels: int) -> nn.Module:
    """Return a copy of the dense convolution ``conv`` for the first ``channels`` of its inputs alone."""
    narrow = copy.deepcopy(conv)
    columns = conv.weight.detach()[:, :channels].clone()
    narrow.weight = nn.Parameter(columns, requires_grad=conv.weight.requires_grad)
    narrow.in_channels = channels
    return narrow
