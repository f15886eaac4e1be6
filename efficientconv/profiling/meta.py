"""Running networks quickly on torch's meta device, whose tensors have shapes and data types but no memory.

On that device torch runs most operators as references in Python, which import its compiler first (as slow as importing
torch itself) and take a few tenths of a millisecond each. This module computes the outputs of the most frequent ones.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten

_ELEMENTWISE = {
    *(_aten.add, _aten.sub, _aten.mul, _aten.div, _aten.pow, _aten.neg, _aten.abs, _aten.clamp, _aten.clone),
    *(_aten.sqrt, _aten.rsqrt, _aten.reciprocal, _aten.exp, _aten.log, _aten.erf, _aten.softplus, _aten.elu),
    *(_aten.relu, _aten.leaky_relu, _aten.hardtanh, _aten.sigmoid, _aten.tanh),
    *(_aten.silu, _aten.gelu, _aten.hardsigmoid, _aten.hardswish),
}
_IN_PLACE = {
    *(_aten.add_, _aten.sub_, _aten.mul_, _aten.div_, _aten.clamp_, _aten.addcmul_),
    *(_aten.normal_, _aten.uniform_),
    *(_aten.relu_, _aten.leaky_relu_, _aten.hardtanh_, _aten.silu_, _aten.hardsigmoid_, _aten.hardswish_),
}


class QuickMeta(TorchDispatchMode):
    """A context in which frequent operators on the meta device compute their outputs from shapes alone."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # a hook of torch since 2.9; True would import the compiler
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Run one operator."""
        return run_operator(func, args, kwargs or {})


def run_operator(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Run an overload of an operator of ``torch.ops.aten``, from the shapes alone where all tensors are meta."""
    infer = _INFER.get(func._overloadpacket)
    output = infer(*args) if infer is not None and "dtype" not in kwargs and _are_plain(infer, args) else None
    return func(*args, **kwargs) if output is None else output


def meta_copy(model: nn.Module) -> nn.Module:
    """Copy the modules of ``model``, with meta tensors in place of their parameters, buffers and other tensors."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in (*module._parameters.values(), *module._buffers.values(), *module.__dict__.values()):
            if isinstance(value, Tensor):
                memo[id(value)] = _meta(value)
            elif isinstance(value, dict) and not value:  # a module has a dozen of these for hooks; deepcopy is slow
                memo[id(value)] = type(value)()
    return copy.deepcopy(model, memo)


def _meta(tensor: Tensor) -> Tensor:
    if tensor.is_meta:
        return tensor
    empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def _are_plain(infer: Callable[..., Any], args: Sequence[Any]) -> bool:
    """Tell whether all tensors are on the meta device, and of one floating data type unless two make a new tensor."""
    tensors = _tensors(args[0] if isinstance(args[0], (list, tuple)) else args)
    promotes = infer is _elementwise and len(tensors) == 2
    return all(tensor.is_meta and tensor.is_floating_point() for tensor in tensors) and (
        promotes or len({tensor.dtype for tensor in tensors}) == 1
    )


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    return [value for value in values if isinstance(value, Tensor)]


# The output of each operator; None leaves the operator to torch, such as the error for shapes that do not fit.


def _elementwise(*args: Any) -> Tensor | None:
    tensors = _tensors(args)
    dims = max(tensor.dim() for tensor in tensors)
    shapes = [(1,) * (dims - tensor.dim()) + tensor.shape for tensor in tensors]
    shape = [next((size for size in sizes if size != 1), 1) for sizes in zip(*shapes, strict=True)]
    dtype = torch.result_type(*tensors) if len(tensors) == 2 else tensors[0].dtype
    return tensors[0].new_empty(shape, dtype=dtype) if all(_spreads(each, shape) for each in shapes) else None


def _linear(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor | None:
    fits = x.shape[1] == weight.shape[0] and bias.shape == weight.shape[1:]
    return x.new_empty(x.shape[0], weight.shape[1]) if fits else None


def _batched_product(x: Tensor, other: Tensor) -> Tensor | None:
    fits = x.dim() == other.dim() == 3 and x.shape[0] == other.shape[0] and x.shape[2] == other.shape[1]
    return x.new_empty(*x.shape[:2], other.shape[2]) if fits else None


def _convolution(
    x: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any, is_transposed: bool, *more: Any
) -> Tensor | None:
    groups, kernel = more[-1], weight.shape[2:]
    fits = x.dim() == weight.dim() and x.shape[1] == weight.shape[1] * groups and weight.shape[0] % groups == 0
    sizes = _windows(x.shape[2:], kernel, stride, padding, dilation) if fits and not is_transposed else None
    return x.new_empty(x.shape[0], weight.shape[0], *sizes) if sizes else None


def _avg_pool(x: Tensor, kernel: Any, stride: Any = (), padding: Any = (0,), ceil: bool = False, *_: Any) -> Any:
    sizes = _windows(x.shape[-2:], kernel, stride or kernel, padding, (1,), ceil)
    return x.new_empty(*x.shape[:-2], *sizes) if sizes and max(padding) * 2 <= min(kernel) else None


def _max_pool(x: Tensor, kernel: Any, stride: Any = (), padding: Any = (0,), dilation: Any = (1,), *ceil: Any) -> Any:
    output = _avg_pool(x, kernel, stride, padding, *ceil) if max(dilation) == 1 else None
    return None if output is None else (output, torch.empty_like(output, dtype=torch.int64))


def _windows(sizes: Any, *window: Any) -> list[int] | None:
    """Return the number of a sliding window's positions in each dimension; None where there is none.

    ``window`` is its kernel, stride, padding and dilation, each of one number or one a dimension, and for a pool
    whether a last window may reach beyond the end, though not begin there.
    """
    *numbers, ceil = window if len(window) == 5 else (*window, False)
    positions = []
    for size, kernel, stride, padding, dilation in zip(
        sizes, *((*n,) * (len(sizes) // len(n)) for n in numbers), strict=True
    ):
        free = size + 2 * padding - (kernel - 1) * dilation - 1
        if free < 0 or stride < 1:
            return None
        count = -(-free // stride) if ceil else free // stride
        positions.append(count + (not ceil or count * stride < size + padding))
    return positions


def _in_place(first: Tensor, *args: Any) -> Tensor | None:
    return first if all(_spreads(other.shape, first.shape) for other in _tensors(args)) else None


def _spreads(given: Sequence[int], shape: Sequence[int]) -> bool:
    """Tell whether the shape ``given`` is a scalar's, or broadcasts to ``shape`` with the same number of dimensions."""
    return not given or (len(given) == len(shape) and all(n in (1, m) for n, m in zip(given, shape, strict=True)))


def _batch_norm(x: Tensor, weight: Any, bias: Any, mean: Any, var: Any, is_training: bool, *_: Any) -> Any:
    return None if is_training else (x.new_empty(x.shape), x.new_empty(0), x.new_empty(0))


def _reduction(x: Tensor, dims: Sequence[int] | None = None, keeps_dims: bool = False) -> Tensor | None:
    if not dims:
        return None
    reduced = {dim % x.dim() for dim in dims}
    sizes = (1 if dim in reduced else n for dim, n in enumerate(x.shape) if keeps_dims or dim not in reduced)
    return x.new_empty(list(sizes))


def _alike(x: Tensor, *_: Any) -> Tensor | None:
    return x.new_empty(x.shape) if x.is_contiguous() else None  # else of the same strides


def _adaptive_pool(x: Tensor, size: Sequence[int]) -> Tensor:
    return x.new_empty((*x.shape[:-2], *size))


def _cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor | None:
    dim %= tensors[0].dim()
    if len({(*tensor.shape[:dim], *tensor.shape[dim + 1 :]) for tensor in tensors}) > 1:
        return None
    shape = list(tensors[0].shape)
    shape[dim] = sum(tensor.shape[dim] for tensor in tensors)
    return tensors[0].new_empty(shape)


def _stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor | None:
    shape = list(tensors[0].shape)
    shape.insert(dim % (len(shape) + 1), len(tensors))
    return tensors[0].new_empty(shape) if len({tensor.shape for tensor in tensors}) == 1 else None


_INFER: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    **dict.fromkeys(_IN_PLACE, _in_place),
    _aten.native_batch_norm: _batch_norm,
    **dict.fromkeys((_aten.mean, _aten.sum), _reduction),
    _aten._adaptive_avg_pool2d: _adaptive_pool,
    _aten.cat: _cat,
    _aten.stack: _stack,
    _aten.addmm: _linear,
    _aten.bmm: _batched_product,
    **dict.fromkeys((_aten.zeros_like, _aten.ones_like), _alike),
    _aten.convolution: _convolution,
    _aten.avg_pool2d: _avg_pool,
    _aten.max_pool2d_with_indices: _max_pool,
}
