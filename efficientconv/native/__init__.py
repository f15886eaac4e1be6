"""Passes over activations in C++, compiled on the machine that runs them when they are first needed.

A layer of many small operators is bound by the bytes that they move, not by its multiply-adds. Here an image goes
through several of them while it lies in the processor's cache::

    layers ── library("bdrconv") ── compiler: c++ -O3 -march=native ── <cache>/bdrconv-<digest>.so
                    │
                    └─ .call("forward", sizes, parameters, x, …, y): float32 tensors by their addresses

    pixels.h    products of pixels, and their gradients     image.h     images with a border, sums over images
    norm.h      batch norms and gates                       pooling.h   averages over the windows of a stride
    groups.h    convolutions in groups, wide and narrow     windows.h   all pixels of a stride's windows side by side
    winograd.h  kernels three columns wide, in fewer        sigmoid.h   the logistic function
                products                                    ending.h    a shortcut's sum and a ReLU
    depthwise.h depthwise convolutions of a row             <layer>.cpp a layer as one operator

Compiling takes two to five seconds, once for a processor and a version. Nothing here is a layer's definition: each
layer computes the same without a compiler, operator by operator, and the tests hold both side by side.
"""

from efficientconv.native.compiler import compiler_version
from efficientconv.native.library import Library, library

__all__ = ["Library", "compiler_version", "library"]
