"""What a network's own norms and 1×1 convolutions become for inference, wherever the graph shows who feeds whom.

- A batch norm goes into the convolution or folded layer in front of it, or into all those whose sum it takes, where
  nothing else takes their outputs.
- Another one goes into the convolutions behind it, where all that takes its output is convolutions without padding: a
  padding's zeros would be shifted too.
- Two 1×1 convolutions with nothing between them are multiplied where that is fewer multiply-adds.

What is called twice, or whose weights the forward pass reads by itself, stays as it is.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterator
from typing import Any, TypeGuard

import torch
from torch import nn
from torch.fx import Node

from efficientconv.compose.build import adds_to_conv2d
from efficientconv.compose.graph import Graph, is_dense_1x1, is_part, is_unit
from efficientconv.compose.rewire import exchange, without_norm
from efficientconv.layers import ConvVariant
from efficientconv.layers.batch_norm import BATCH_NORMS, folded_behind, rescaled, scale_and_shift
from efficientconv.layers.folded_form import FoldedForm

_SUMS = (operator.add, operator.iadd)
_NOTHING = (nn.Identity, nn.Dropout, nn.Dropout2d)  # in eval mode


def fold_host(model: nn.Module) -> None:
    """Fold norms and 1×1 convolutions into their neighbours, in place, in eval mode.

    A network that cannot be traced is taken child by child.
    """
    graphs = (Graph(model, is_leaf) for is_leaf in (is_part, is_unit))
    graph = next((graph for graph in graphs if graph.untraceable is None), None)
    if graph is None:
        for child in model.children():
            fold_host(child)
        return
    for node in graph.nodes:
        _fold_into_conv_before(model, graph, node)
    for node in graph.nodes:
        _fold_into_convs_behind(model, graph, node)
    for node in graph.nodes:
        _multiply_with_conv_before(model, graph, node)


def _fold_into_conv_before(model: nn.Module, graph: Graph, node: Node) -> None:
    norm = graph.module(node)
    if not _is_foldable_norm(norm) or not is_ours_to_edit(graph, node):
        return
    terms = _terms(graph, node.all_input_nodes[0])
    if terms is None or len(set(terms)) < len(terms):
        return
    scale, shift = scale_and_shift(norm)
    for position, (name, term) in enumerate(terms):
        added = None if position else shift
        new = term.rescaled(scale, added) if isinstance(term, FoldedForm) else rescaled(term, scale, added)
        exchange(model, name, new)
    exchange(model, str(node.target), without_norm(norm))


def _fold_into_convs_behind(model: nn.Module, graph: Graph, node: Node) -> None:
    norm = graph.module(node)
    if not _is_foldable_norm(norm) or next(norm.children(), None) is not None or not is_ours_to_edit(graph, node):
        return
    takers = list(_takers(graph, node))
    if takers and all(_is_unpadded(graph.module(taker)) and is_ours_to_edit(graph, taker) for taker in takers):
        for taker in takers:
            conv: Any = graph.module(taker)
            exchange(model, str(taker.target), folded_behind(norm, conv))
        exchange(model, str(node.target), nn.Identity())


def _multiply_with_conv_before(model: nn.Module, graph: Graph, node: Node) -> None:
    source = _past_nothing(graph, node.all_input_nodes[0]) if len(node.all_input_nodes) == 1 else None
    if source is None:
        return
    first, second = graph.module(source), graph.module(node)
    if not (_is_unpadded_1x1(first) and _is_unpadded_1x1(second) and product_is_cheaper(first, second)):
        return
    if is_ours_to_edit(graph, source) and is_ours_to_edit(graph, node):
        exchange(model, str(source.target), nn.Identity())
        exchange(model, str(node.target), product(first, second))


def product_is_cheaper(first: nn.Conv2d, second: nn.Conv2d) -> bool:
    """Tell whether the product of two dense 1×1 convolutions needs fewer multiply-adds than the two."""
    pixels = second.stride[0] * second.stride[1]  # that the first one computes for each of the second one
    i, m, o = first.in_channels, first.out_channels, second.out_channels
    return i * o < i * m * pixels + m * o


def product(first: nn.Conv2d, second: nn.Conv2d) -> nn.Conv2d:
    """Return one 1×1 convolution that computes ``second(first(x))``; both are dense and do not pad."""
    result = copy.deepcopy(second)
    outer = second.weight.detach().flatten(1)  # (o, m)
    result.in_channels = first.in_channels
    result.stride = tuple(a * b for a, b in zip(first.stride, second.stride, strict=True))
    result.weight = nn.Parameter((outer @ first.weight.detach().flatten(1))[..., None, None])
    biases = [] if first.bias is None else [outer @ first.bias.detach()]
    biases += [] if second.bias is None else [second.bias.detach()]
    result.bias = nn.Parameter(torch.stack(biases).sum(0)) if biases else None
    return result


def _terms(graph: Graph, node: Node) -> list[tuple[str, nn.Conv2d | FoldedForm]] | None:
    """Return the convolutions and folded layers, by name, whose sum ``node`` is; None where others need a term."""
    source = _past_nothing(graph, node)
    if source is None:
        return None
    conv = graph.module(source)
    if (_is_plain_conv(conv) or isinstance(conv, FoldedForm)) and is_ours_to_edit(graph, source):
        return [(str(source.target), conv)]
    if source.op != "call_function" or source.target not in _SUMS or len(source.all_input_nodes) != 2:
        return None
    first, second = (_terms(graph, term) for term in source.all_input_nodes)
    return None if first is None or second is None else first + second


def _past_nothing(graph: Graph, node: Node) -> Node | None:
    """Return ``node`` or what feeds it past what does nothing in eval mode; None where anything else needs it."""
    while len(node.users) == 1 and isinstance(graph.module(node), _NOTHING):
        (node,) = node.all_input_nodes
    return node if len(node.users) == 1 else None


def _takers(graph: Graph, node: Node) -> Iterator[Node]:
    """Yield what takes the output of ``node``, past what does nothing in eval mode."""
    for user in node.users:
        if isinstance(graph.module(user), _NOTHING):
            yield from _takers(graph, user)
        else:
            yield user


def is_ours_to_edit(graph: Graph, node: Node) -> bool:
    """Tell whether ``node`` is the one call of its module, whose parameters nobody else reads."""
    name = str(node.target)
    read = any(parameter.rpartition(".")[0] == name for parameter in graph.read_parameters)
    return node.op == "call_module" and len(graph.calls(name)) == 1 and not read


def _is_foldable_norm(norm: nn.Module | None) -> TypeGuard[nn.Module]:
    return isinstance(norm, BATCH_NORMS) and norm.running_mean is not None


def _is_plain_conv(conv: nn.Module | None) -> TypeGuard[nn.Conv2d]:
    """Tell whether ``conv`` convolves with its weight as it is: no standardisation, no hooks that change it."""
    if not isinstance(conv, nn.Conv2d) or conv._forward_pre_hooks or conv._forward_hooks:
        return False
    return isinstance(conv, ConvVariant) or not adds_to_conv2d(conv)


def _is_unpadded(conv: nn.Module | None) -> bool:
    by_numbers = type(conv) is nn.Conv2d or isinstance(conv, ConvVariant)  # Conv2dSame's say nothing
    return by_numbers and _is_plain_conv(conv) and conv.padding in ((0, 0), "valid")


def _is_unpadded_1x1(conv: nn.Module | None) -> TypeGuard[nn.Conv2d]:
    return is_dense_1x1(conv) and _is_unpadded(conv)
