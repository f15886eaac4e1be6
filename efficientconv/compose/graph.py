"""The graph of a model's forward pass by ``torch.fx``, for analysis only: edits address modules by their names.

Convolutions, norms and modules without children are the leaves of the graph.
"""

from __future__ import annotations

import copy
import inspect
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from functools import cached_property
from typing import Any, TypeGuard

import torch.fx
from torch import Tensor, nn
from torch.fx import Node
from torch.nn.modules.batchnorm import _NormBase

from efficientconv.compose.probe import Operation, is_channelwise, is_elementwise
from efficientconv.compose.where import group_kind
from efficientconv.layers import ConvVariant, DepthwiseSeparableConv2d
from efficientconv.layers.folded_form import FoldedForm
from efficientconv.profiling import meta_copy

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
_PRODUCTS = ("mul", "imul", "mul_")


class Graph:
    """The operations of a model's forward pass and their connections.

    Args:
        model: any network; edits of it that keep the names of modules may follow.
        is_leaf: tells whether a module is one operation of the graph; the calls inside other modules are operations.

    Attributes:
        untraceable: why ``torch.fx`` cannot trace the model; None where it can.
    """

    def __init__(self, model: nn.Module, is_leaf: Callable[[nn.Module], bool] | None = None) -> None:
        self._model = model
        self._modules = dict(model.named_modules())
        self.untraceable: str | None = None
        try:
            self._nodes = list(_Tracer(is_leaf).trace(meta_copy(model), _defaults(model)).nodes)
        except Exception as error:  # a forward pass may raise anything; names and shapes then stand in for the graph
            self._nodes = []
            self.untraceable = str(error).partition("\n")[0]
        self._calls: dict[str, list[Node]] = defaultdict(list)
        for node in self._nodes:
            if node.op == "call_module":
                self._calls[str(node.target)].append(node)

    @property
    def nodes(self) -> Sequence[Node]:
        """The operations, in the order in which they run."""
        return self._nodes

    def calls(self, name: str) -> list[Node]:
        """Return the calls of the module ``name`` in their order; an empty list where there is no graph."""
        return self._calls.get(name, [])

    def module(self, node: Node) -> nn.Module | None:
        """Return the model's present module of the name that ``node`` calls; None where it calls no module."""
        return self._model.get_submodule(str(node.target)) if node.op == "call_module" else None

    @cached_property
    def order(self) -> dict[str, int]:
        """The position in the forward pass of each module that runs and of each module around it, by name."""
        order: dict[str, int] = {}
        for name in self._calls:
            parts = name.split(".")
            for depth in range(1, len(parts) + 1):
                order.setdefault(".".join(parts[:depth]), len(order))
        return order

    @cached_property
    def read_parameters(self) -> set[str]:
        """Names of the parameters and buffers that the model's code reads directly, outside their module's forward."""
        return {str(node.target) for node in self._nodes if node.op == "get_attr"}

    @cached_property
    def stems(self) -> set[str]:
        """Names of the convolutions that see the image through nothing but norms and element-wise operations.

        Without a graph: the first convolution, and every other with as few input channels.
        """
        convs = {name: module for name, module in self._modules.items() if isinstance(module, nn.Conv2d)}
        if self.untraceable is not None:
            fewest = next((conv.in_channels for conv in convs.values()), 0)
            return {name for name, conv in convs.items() if conv.in_channels <= fewest}
        images = set(self._images())
        return {name for name in convs if any(images.issuperset(node.all_input_nodes) for node in self.calls(name))}

    @cached_property
    def projections(self) -> set[str]:
        """Names of the dense 1×1 convolutions that do not widen, behind a depthwise one, its norm, activation and SE.

        Only these can have orthonormal rows: a wider one, such as ConvNeXt's expansion, is no projection.
        """
        return {name for name, module in self._modules.items() if self._is_projection(name, module)}

    def ends(self, names: Set[str]) -> tuple[set[str], set[str]]:
        """Return the first and the last of the modules ``names``: fed by no other of them, and feeding no other."""
        first = _not_behind_others(names, self._nodes, lambda node: node.all_input_nodes)
        last = _not_behind_others(names, reversed(self._nodes), lambda node: node.users)
        return first, last

    def keeps_pixels(self, node: Node) -> bool:
        """Tell whether ``node`` is a norm or an element-wise operation on one input."""
        if is_norm(self.module(node)):
            return True
        operation = self._operation(node)
        return operation is not None and is_elementwise(operation)

    def keeps_channels(self, node: Node) -> bool:
        """Tell whether ``node`` acts channel by channel on any number of channels, as activations and poolings do."""
        operation = self._operation(node)
        return operation is not None and is_channelwise(operation)

    def _images(self) -> Iterator[Node]:
        images: set[Node] = set()
        for node in self._nodes:
            sources = [source for source in node.all_input_nodes if source.op != "get_attr"]
            is_image = images.issuperset(sources) and self.keeps_pixels(node) if sources else node.op == "placeholder"
            if is_image:
                images.add(node)
                yield node

    def _is_projection(self, name: str, module: nn.Module) -> bool:
        if not is_dense_1x1(module) or module.out_channels > module.in_channels:
            return False
        if isinstance(self._modules[name.rpartition(".")[0]], DepthwiseSeparableConv2d):
            return False  # a part of a unit of its own
        return any(self._behind_depthwise(node.all_input_nodes[0]) for node in self.calls(name))

    def _behind_depthwise(self, node: Node) -> bool:
        module = self.module(node)
        if isinstance(module, nn.Conv2d):
            return group_kind(module) == "depthwise"
        passes = _function_name(node) in _PRODUCTS or self.keeps_pixels(node)
        return passes and any(self._behind_depthwise(source) for source in node.all_input_nodes)

    def _operation(self, node: Node) -> Operation | None:
        """Return the operation of ``node`` as a function of its one non-constant input; None where it has several."""
        module = self.module(node)
        if module is not None:
            return _module_operation(module)
        inputs = [source for source in node.all_input_nodes if source.op != "get_attr"]
        if node.op not in ("call_function", "call_method") or len(inputs) != 1:
            return None
        return lambda image: _evaluate(node, {inputs[0]: image}, self._model)


def _not_behind_others(names: Set[str], nodes: Iterable[Node], before: Callable[[Node], Iterable[Node]]) -> set[str]:
    """Return the modules of ``names`` that are behind no other; ``nodes`` come in the order that ``before`` defines."""
    behind: set[Node] = set()
    ends: set[str] = set()
    for node in nodes:
        chosen = node.op == "call_module" and str(node.target) in names
        if not behind.isdisjoint(before(node)):
            behind.add(node)
        elif chosen:
            ends.add(str(node.target))
            behind.add(node)
    return ends


class _Tracer(torch.fx.Tracer):
    def __init__(self, is_leaf: Callable[[nn.Module], bool] | None = None) -> None:
        super().__init__()
        self._is_leaf = is_leaf or is_unit

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return self._is_leaf(m)


def is_unit(module: nn.Module) -> bool:
    """Tell whether ``module`` is a convolution, a variant or a norm, or has no children."""
    if isinstance(module, ConvVariant) and not isinstance(module, DepthwiseSeparableConv2d):
        return True
    return is_part(module)


def is_part(module: nn.Module) -> bool:
    """Tell whether ``module`` is a convolution, a norm, a folded layer or childless; a variant is several parts."""
    return isinstance(module, (nn.Conv2d, FoldedForm)) or is_norm(module) or next(module.children(), None) is None


def is_norm(module: nn.Module | None) -> bool:
    """Tell whether ``module`` is one of torch's norms, or a childless module with "norm" in its class name."""
    if module is None or isinstance(module, NORMS):
        return module is not None
    return "norm" in type(module).__name__.lower() and next(module.children(), None) is None


def is_dense_1x1(module: nn.Module | None) -> TypeGuard[nn.Conv2d]:
    """Tell whether ``module`` is a convolution with a 1×1 kernel and one group."""
    return isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1


def _defaults(model: nn.Module) -> dict[str, Any] | None:
    """Return the defaults of the arguments of ``forward`` behind the image, so that branches on them can be traced."""
    _, *others = inspect.signature(model.forward).parameters.values()
    return {p.name: p.default for p in others if p.default is not p.empty} or None


def _module_operation(module: nn.Module) -> Operation | None:
    """Return the module as a function; None where it is a convolution or has parameters for each channel."""
    if isinstance(module, (nn.Conv2d, ConvVariant)) or any(p.numel() > 1 for p in module.parameters()):
        return None
    return lambda image: copy.deepcopy(module).cpu().eval()(image)


def _function_name(node: Node) -> str:
    return str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")


def _evaluate(node: Node, values: dict[Node, Tensor], model: nn.Module) -> Any:
    """Run ``node`` alone, on ``values`` for its inputs and the model's own tensors for its constants."""

    def value(source: Node) -> Any:
        return values[source] if source in values else _attribute(model, str(source.target)).detach().cpu()

    args = torch.fx.node.map_arg(node.args, value)
    kwargs = torch.fx.node.map_arg(node.kwargs, value)
    if callable(node.target):
        return node.target(*args, **kwargs)
    return getattr(args[0], node.target)(*args[1:], **kwargs)


def _attribute(model: nn.Module, name: str) -> Tensor:
    owner, _, attribute = name.rpartition(".")
    return getattr(model.get_submodule(owner), attribute)
