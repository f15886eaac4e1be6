"""What follows a folded layer becomes its ending: the sum with a shortcut, a ReLU, or the one and then the other.

A sum is written in the forward pass of a module around the layer, such as a residual unit: that module becomes the
graph of its operations, with modules of the same names, in which the layer takes the shortcut. Elsewhere a ReLU behind
a layer becomes nothing. The network itself stays of its class.
"""

from __future__ import annotations

import operator

import torch
from torch import nn
from torch.fx import GraphModule, Node
from torch.nn import functional as F

from efficientconv.compose.graph import Graph
from efficientconv.compose.rewire import exchange
from efficientconv.deploy.host import is_ours_to_edit
from efficientconv.layers.cpu_forms import has_hooks
from efficientconv.layers.folded_form import FoldedForm

_SUMS = (operator.add, operator.iadd, torch.add)
_RELUS = (F.relu, torch.relu, "relu", "relu_")


def give_endings(model: nn.Module) -> None:
    """Let the folded layers of ``model`` end in what follows them, in place, in eval mode.

    A network that cannot be traced as a whole stays as it is: what it does with a layer elsewhere is not seen. What it
    wants of a unit besides calling it, such as an attribute or its class, is not seen either: try the result.
    """
    graph = _graph(model)
    owners = list(dict.fromkeys(filter(None, (_owner(node) for node in graph.nodes if _form_of_sum(graph, node)))))
    for owner in owners:
        exchange(model, owner, _with_endings(model.get_submodule(owner)))
    for node in graph.nodes:
        if not any(f"{node.target}.".startswith(f"{owner}.") for owner in owners):
            _take_relu_module(model, graph, node)


def _graph(model: nn.Module) -> Graph:
    """Return the graph without the calls of what a fold has left of norms; without nodes where it cannot be traced."""
    graph = Graph(model)
    for node in graph.nodes:
        if type(graph.module(node)) is nn.Identity and node.all_input_nodes:
            _replace(node, node.all_input_nodes[0])
    return graph


def _owner(node: Node) -> str:
    """Return the name of the module in whose forward pass ``node`` is written; empty for the network itself."""
    return next(reversed(node.meta.get("nn_module_stack", {"": None})))


def _with_endings(unit: nn.Module) -> nn.Module:
    """Return ``unit`` as a graph in which sums and ReLUs are endings; as it is where somebody would miss something."""
    graph = _graph(unit)
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1 or graph.read_parameters or any(map(has_hooks, unit.modules())):
        return unit
    for node in graph.nodes:
        if form := _form_of_sum(graph, node):
            _take_shortcut(form, node)
        elif form := _form_of_relu(graph, node):
            _activate(graph, form)
            _replace(node, form)
    return GraphModule(unit, inputs[0].graph, type(unit).__name__)


def _form_of_sum(graph: Graph, node: Node) -> Node | None:
    """Return the call of the folded layer that is one of two terms of ``node``, and can be made there; else None.

    It can where nothing else takes the layer's input, and may have changed it by then. ``x += y`` changes x.
    """
    if node.op != "call_function" or node.target not in _SUMS or node.kwargs or len(node.all_input_nodes) != 2:
        return None
    for term in node.all_input_nodes[: 1 if node.target is operator.iadd else 2]:
        form = _form(graph, term)
        if form and len(form.args) == 1 and set(form.all_input_nodes[0].users) <= {form, node}:
            return form
    return None


def _form_of_relu(graph: Graph, node: Node) -> Node | None:
    """Return the call of the folded layer that ``node`` activates; None where it is no ReLU, or of something else."""
    is_relu = type(graph.module(node)) is nn.ReLU or (node.op.startswith("call") and node.target in _RELUS)
    return _form(graph, node.all_input_nodes[0]) if is_relu and node.all_input_nodes else None


def _form(graph: Graph, node: Node) -> Node | None:
    """Return ``node`` where it is the one call of a folded layer without a ReLU, for one taker; else None."""
    form = graph.module(node)
    fits = isinstance(form, FoldedForm) and not form.activates and len(node.users) == 1
    return node if fits and is_ours_to_edit(graph, node) else None


def _take_shortcut(form: Node, total: Node) -> None:
    """Let the layer's call take the other term, in the place of the sum."""
    (shortcut,) = (term for term in total.all_input_nodes if term is not form)
    total.prepend(form)
    form.args = (form.args[0], shortcut)
    _replace(total, form)


def _replace(node: Node, other: Node) -> None:
    node.replace_all_uses_with(other)
    node.graph.erase_node(node)


def _activate(graph: Graph, form: Node) -> None:
    layer = graph.module(form)
    assert isinstance(layer, FoldedForm)
    layer.activates = True


def _take_relu_module(model: nn.Module, graph: Graph, node: Node) -> None:
    relu, form = graph.module(node), _form_of_relu(graph, node)
    if form and relu is not None and not has_hooks(relu) and is_ours_to_edit(graph, node):
        _activate(graph, form)
        exchange(model, str(node.target), nn.Identity())
