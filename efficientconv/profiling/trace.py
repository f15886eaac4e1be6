"""Recording one forward pass: the operators with their modules and shapes, the calls of modules, the peak memory.

Operators are recorded below autograd, so that it does not matter whether a model calls ``nn.Conv2d``,
``F.conv2d`` or a layer that composes its kernel first. The calls of childless modules are recorded beside them, because
most published counts come from tools that hooked modules.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from efficientconv.eval_mode import in_eval_mode
from efficientconv.profiling.meta import QuickMeta, meta_copy, run_operator

Shape = tuple[int, ...]
_aten = torch.ops.aten
_PRODUCTS = (_aten.convolution, _aten.mm, _aten.addmm, _aten.bmm, _aten.baddbmm)
_BIAS_ARGUMENT = {_aten.convolution: 2, _aten.addmm: 0}


@dataclass(frozen=True)
class Operator:
    """One operator of the forward pass.

    Attributes:
        name: the name in ``torch.ops.aten``, such as ``convolution`` or ``addmm``.
        module: dotted name of the innermost running module.
        owner: the innermost running module.
        inputs: shapes of the input tensors.
        output: shape of the (first) output.
        macs: multiply-adds of a convolution or a matrix product, else 0.
        has_bias: whether the operator adds a bias to each output.
        of_image: whether any input depends on the image; composing a kernel from weights has none that does.
        of_image_alone: whether all inputs depend on the image, as in attention.
    """

    name: str
    module: str
    owner: nn.Module
    inputs: tuple[Shape, ...]
    output: Shape
    macs: int
    has_bias: bool
    of_image: bool
    of_image_alone: bool


@dataclass(frozen=True)
class Call:
    """A call of a module without children, or of a batch norm, with the shapes of its first input and its output."""

    name: str
    module: nn.Module
    input: Shape
    output: Shape


@dataclass
class Trace:
    """The record of a forward pass, in the order of execution.

    ``peak_bytes`` is the peak memory of the image and of all tensors computed from it or from the weights, without the
    weights themselves.
    """

    operators: list[Operator] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    peak_bytes: int = 0


def trace(model: nn.Module, input_size: tuple[int, int, int]) -> Trace:
    """Run ``model`` in eval mode on one image of ``input_size`` (channels, height, width) and record the pass.

    A model on the meta device runs itself, any other as a copy on the meta device. Only where the forward pass needs
    real values does an ordinary copy run.

    Raises:
        ValueError: the model does not run on an image of this size.
    """
    is_meta = all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    reason: Exception | None = None
    for to_run in (_itself,) if is_meta else (meta_copy, copy.deepcopy):
        try:
            return _run(to_run(model), input_size)
        except Exception as error:  # a forward pass may raise anything
            reason = error
    name, size = type(model).__name__, "×".join(map(str, input_size))
    raise ValueError(f"input_size={input_size}: {name} does not run on an image of {size}: {reason}") from reason


def _itself(model: nn.Module) -> nn.Module:
    return model


def _run(model: nn.Module, input_size: tuple[int, int, int]) -> Trace:
    weight = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    image = torch.zeros(1, *input_size, device=weight.device, dtype=weight.dtype)
    recorder = _Recorder(model, image)
    with torch.no_grad(), in_eval_mode(model), recorder.following(), image.device, recorder:
        model(image)
    return recorder.trace


class _Recorder(QuickMeta):
    def __init__(self, model: nn.Module, image: Tensor) -> None:
        super().__init__()
        self.trace = Trace()
        self._open = [("", model)]  # the modules that are running, innermost last
        self._names = {module: name for name, module in model.named_modules()}
        self._weights = weakref.WeakSet(tensor.untyped_storage() for tensor in (*model.parameters(), *model.buffers()))
        self._of_image: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()
        self._alive: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()
        self._alive_bytes = 0
        self._follow(image, of_image=True)

    @contextmanager
    def following(self) -> Iterator[None]:
        """Keep track of the running modules of the model within the context."""
        handles = register_module_forward_pre_hook(self._begin), register_module_forward_hook(self._end)
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _begin(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if module in self._names:
            self._open.append((self._names[module], module))

    def _end(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if module not in self._names:
            return
        name, _ = self._open.pop()
        tensors = [value for value in (*inputs[:1], output) if isinstance(value, Tensor)]
        is_leaf = next(module.children(), None) is None or isinstance(module, _BatchNorm)  # timm's hold an activation
        if len(tensors) == 2 and is_leaf:
            self.trace.calls.append(Call(name, module, tuple(inputs[0].shape), tuple(output.shape)))

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        out = run_operator(func, args, kwargs or {})
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        outputs = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        of_image = [tensor.untyped_storage() in self._of_image for tensor in inputs]
        for tensor in outputs:
            self._follow(tensor, any(of_image))
        if outputs:
            self._record(func._overloadpacket, args, inputs, outputs[0], of_image)
        return out

    def _record(
        self, packet: Any, args: tuple[Any, ...], inputs: list[Tensor], out: Tensor, of_image: list[bool]
    ) -> None:
        macs = flop_registry[packet](*args, out_val=out) // 2 if packet in _PRODUCTS else 0
        has_bias = packet in _BIAS_ARGUMENT and args[_BIAS_ARGUMENT[packet]] is not None
        name, shapes = str(packet).removeprefix("aten."), tuple(tuple(tensor.shape) for tensor in inputs)
        place, whence = self._open[-1], (any(of_image), all(of_image))
        self.trace.operators.append(Operator(name, *place, shapes, tuple(out.shape), macs, has_bias, *whence))

    def _follow(self, tensor: Tensor, of_image: bool) -> None:
        storage = tensor.untyped_storage()
        if storage in self._weights:
            return
        if of_image:
            self._of_image.add(storage)
        if storage not in self._alive:
            self._alive.add(storage)
            self._count(storage.nbytes())
            weakref.finalize(storage, self._count, -storage.nbytes())

    def _count(self, size: int) -> None:
        self._alive_bytes += size
        self.trace.peak_bytes = max(self.trace.peak_bytes, self._alive_bytes)
