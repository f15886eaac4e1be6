"""The conventions of published counts: each a function, by name, of one recorded forward pass.

Papers print "FLOPs", but each count came from some tool with rules of its own, and they differ by up to 42% on the same
network. A convention counts the operations that its tool counted, and no others; 1 is one multiply-add.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

from torch import nn

from efficientconv.profiling.trace import Operator, Trace

Convention = Callable[[Trace], Iterator[tuple[str, int]]]

_LAYERS = ("convolution", "mm", "addmm")  # the operators of nn.Conv2d and nn.Linear
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_AVERAGE_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_ADAPTIVE_AVERAGE_POOLS = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
_MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_ADAPTIVE_MAX_POOLS = (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)
_POOLS = (*_AVERAGE_POOLS, *_ADAPTIVE_AVERAGE_POOLS, *_MAX_POOLS, *_ADAPTIVE_MAX_POOLS)


def layer_operators(trace: Trace) -> Iterator[Operator]:
    """Yield the convolutions and linear layers that work on the image, not on weights alone."""
    return (op for op in trace.operators if op.name in _LAYERS and op.of_image)


def weight_operators(trace: Trace) -> Iterator[Operator]:
    """Yield the ``layer_operators`` and other products of the image with weights, such as ``torch.einsum``."""
    for op in trace.operators:
        is_einsum = op.name == "bmm" and not op.of_image_alone
        if op.of_image and (op.name in _LAYERS or is_einsum):
            yield op


def macs(trace: Trace) -> Iterator[tuple[str, int]]:
    """Count the multiply-adds of the image with weights, however they are written, without biases.

    Products of weights alone (a kernel that is composed before it is used) cost nothing per image and are not counted;
    nor are products of two activations (attention). So count SlimConv's README and the tables of timm's networks.
    """
    for op in weight_operators(trace):
        yield op.module, op.macs


def bsconv(trace: Trace) -> Iterator[tuple[str, int]]:
    """Count as the profiler in the repository of BSConv (v0.4.0) does, hence all tables of its README.

    Convolutions and linear layers with one for each biased output; 2 for each input of a batch norm (1 without affine);
    1 for each output of an ``nn.ReLU`` and each input of a pooling layer. Other activations and sums: nothing.
    """
    for op in layer_operators(trace):
        yield op.module, op.macs + _bias(op)
    for call in trace.calls:
        if isinstance(call.module, _BATCH_NORMS):
            yield call.name, prod(call.input) * (2 if call.module.affine else 1)
        elif isinstance(call.module, nn.ReLU):
            yield call.name, prod(call.output)
        elif isinstance(call.module, _POOLS):
            yield call.name, prod(call.input)


def thop2020(trace: Trace) -> Iterator[tuple[str, int]]:
    """Count as thop (pytorch-OpCounter) did in early 2020, hence the tables of SPConv.

    Convolutions with one for each biased output; 2 · in · out for a linear layer; 4 for each input of a batch norm;
    average pooling (k + 1) for each output, where thop took k for the kernel size as it was given (a number: k, a pair:
    k · k), and an adaptive one (window + 1), however it is written: SPConv's layer here takes the mean over all pixels
    where the authors' has a module. Activations and maxima: nothing.
    """
    for op in layer_operators(trace):
        yield op.module, op.macs + _bias(op) if op.name == "convolution" else 2 * op.macs
    for call in trace.calls:
        if isinstance(call.module, _BATCH_NORMS):
            yield call.name, 4 * prod(call.input)
        elif isinstance(call.module, _AVERAGE_POOLS):
            yield call.name, (_kernel_area(call.module) + 1) * prod(call.output)
    for op in _adaptive_average_pools(trace):
        windows = (size // parts for size, parts in zip(op.inputs[0][2:], op.output[2:] or (1, 1), strict=True))
        yield op.module, (prod(windows) + 1) * prod(op.output)


def ptflops2020(trace: Trace) -> Iterator[tuple[str, int]]:
    """Count as ptflops did in 2020, hence the 4.87 G of SlimConv's abstract.

    Convolutions with one for each biased output; linear layers; 2 for each input of a batch norm (1 without affine); 1
    for each output of a ReLU-like activation and each input of a pooling layer. Modules only: functional calls of these
    were not seen.
    """
    for op in layer_operators(trace):
        yield op.module, op.macs + _bias(op) if op.name == "convolution" else op.macs
    for call in trace.calls:
        if isinstance(call.module, _BATCH_NORMS):
            yield call.name, prod(call.input) * (2 if call.module.affine else 1)
        elif isinstance(call.module, (nn.ReLU, nn.ReLU6, nn.PReLU, nn.ELU, nn.LeakyReLU)):
            yield call.name, prod(call.output)
        elif isinstance(call.module, _POOLS):
            yield call.name, prod(call.input)


def hetconv(trace: Trace) -> Iterator[tuple[str, int]]:
    """Count as the VGG-16 tables of HetConv do, by formula.

    Linear layers, and convolutions with one for each output, biased or not. A layer that runs as a dense convolution
    with zeros in its kernel counts by the part that is none, 1/P + (1 − 1/P)/k², its ``effective_macs_ratio``.
    """
    for op in layer_operators(trace):
        dense = op.macs + (prod(op.output) if op.name == "convolution" else 0)
        yield op.module, _effective(dense, op)


def hetconv_unbiased(trace: Trace) -> Iterator[tuple[str, int]]:
    """Count as ``hetconv`` does, but no biases: HetConv's ResNet-50, whose convolutions have none."""
    for op in layer_operators(trace):
        yield op.module, _effective(op.macs, op)


def mmcls2021(trace: Trace) -> Iterator[tuple[str, int]]:
    """Count as MMClassification did in 2021, hence RepVGG's table there: ``ptflops2020`` without the classifier.

    Its tool ran ``extract_feat``, which ends with the global pool. Its squeeze-excitations pool with a module, which
    counts; those of the networks here take a mean, which counts the same.
    """
    classifier = _classifier(trace)
    yield from ((name, count) for name, count in ptflops2020(trace) if name != classifier)
    for op in _adaptive_average_pools(trace):
        if not isinstance(op.owner, _ADAPTIVE_AVERAGE_POOLS):
            yield op.module, prod(op.inputs[0])


def mmpretrain(trace: Trace) -> Iterator[tuple[str, int]]:
    """Count as MMPretrain did in 2022, hence MobileOne's table there: ``fvcore`` without the classifier."""
    classifier = _classifier(trace)
    return ((name, count) for name, count in fvcore(trace) if name != classifier)


def fvcore(trace: Trace) -> Iterator[tuple[str, int]]:
    """Count as fvcore does in eval mode where there is no attention, hence FasterNet's table.

    As ``macs``, and 2 for each input of a batch norm (1 without affine); 1 for each input of an adaptive average pool.
    Activations and sums: nothing.
    """
    yield from macs(trace)
    for call in trace.calls:
        if isinstance(call.module, _BATCH_NORMS):
            yield call.name, prod(call.input) * (2 if call.module.affine else 1)
        elif isinstance(call.module, _ADAPTIVE_AVERAGE_POOLS):
            yield call.name, prod(call.input)


def torchsummaryx(trace: Trace) -> Iterator[tuple[str, int]]:
    """Count as torchsummaryX does, hence the table of HetConv's grouped form.

    Convolutions and linear layers without biases, and 1 for each weight (not each input) of a batch norm.
    """
    for op in layer_operators(trace):
        yield op.module, op.macs
    for call in trace.calls:
        if isinstance(call.module, _BATCH_NORMS) and call.module.affine:
            yield call.name, call.module.num_features


_ALL = (macs, bsconv, thop2020, ptflops2020, hetconv, hetconv_unbiased, mmcls2021, mmpretrain, fvcore, torchsummaryx)
CONVENTIONS: dict[str, Convention] = {convention.__name__: convention for convention in _ALL}


def _classifier(trace: Trace) -> str:
    """Return the name of the module that computes the logits: the last convolution or linear layer, if any."""
    return next((op.module for op in reversed(list(layer_operators(trace)))), "")


def _adaptive_average_pools(trace: Trace) -> Iterator[Operator]:
    """Yield the adaptive average pools, whether they are modules, functions or means over all pixels."""
    for op in trace.operators:
        is_mean_of_pixels = op.name == "mean" and len(op.inputs[0]) == 4 and prod(op.output) == prod(op.inputs[0][:2])
        if op.of_image and (op.name == "_adaptive_avg_pool2d" or is_mean_of_pixels):
            yield op


def _effective(dense: int, op: Operator) -> int:
    return round(dense * getattr(op.owner, "effective_macs_ratio", 1.0))


def _bias(op: Operator) -> int:
    return prod(op.output) if op.has_bias else 0


def _kernel_area(pool: nn.Module) -> int:
    size: Any = pool.kernel_size
    return size if isinstance(size, int) else prod(size)
