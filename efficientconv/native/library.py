"""Calls what was compiled, with tensors for arrays."""

from __future__ import annotations

import ctypes
import logging
import struct
import subprocess
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from efficientconv.native.compiler import compiled, is_forbidden

log = logging.getLogger(__name__)


class Library:
    """The functions of a compiled file, by their names.

    Args:
        path: of the library.
    """

    def __init__(self, path: Path) -> None:
        self._functions = ctypes.CDLL(str(path))

    def call(self, function: str, layer: Sequence[int | float], *arguments: Tensor | Sequence[Tensor] | int) -> None:
        """Call a function with a structure of numbers, and with arrays, structures of arrays or whole numbers.

        Args:
            function: its name.
            layer: what its first structure has behind the number of threads: int for long, float for double.
            arguments: arrays, float32 and contiguous, images as (N, H, W, C); numbers as long.

        Raises:
            ValueError: an array is another.
        """
        numbers = struct.pack(_form(*map(type, layer)), torch.get_num_threads(), *layer)
        self._functions[function](numbers, *map(_argument, arguments))


@lru_cache(maxsize=32)
def _form(*types: type) -> str:
    return "q" + "".join("d" if of is float else "q" for of in types)


def _argument(given: Tensor | Sequence[Tensor] | int) -> object:
    if isinstance(given, int):
        return ctypes.c_long(given)
    if isinstance(given, Tensor):
        return ctypes.c_void_p(_address(given))
    return (ctypes.c_void_p * len(given))(*map(_address, given))


def _address(array: Tensor) -> int:
    if array.dtype != torch.float32 or not array.is_cpu or not array.is_contiguous():
        raise ValueError(f"array: {array.dtype} of strides {array.stride()}; must be contiguous float32 on the CPU")
    return array.data_ptr()


@lru_cache(maxsize=32)
def library(name: str) -> Library | None:
    """Return the library of ``name``.cpp, compiled if need be; None where there is none, which is said once.

    ``EFFICIENTCONV_NATIVE=0`` in the environment asks for none.
    """
    if is_forbidden():
        return None
    try:
        return Library(compiled(name))
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "stderr", None) or str(error)
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else reason
        log.info("%s runs operator by operator, which is slower: %s", name, text.strip().partition("\n")[0])
        return None
