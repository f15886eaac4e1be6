"""The formats by name, and what each needs to be installed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor

from efficientconv.deploy.package import Package
from efficientconv.errors import UserError, nearest_first


@dataclass(frozen=True)
class Format:
    """A way to write a network, and to run what was written.

    Attributes:
        suffix: of its files.
        write: takes a ``Package``, the file, and for ONNX ``calibration``.
        open_runner: takes the file and the ``Package``, and returns what maps a batch to the network's outputs.
    """

    suffix: str
    write: Callable[..., None]
    open_runner: Callable[[Path, Package], Callable[[Tensor], Tensor]]


NEEDED = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "torch_export": (), "safetensors": ()}
"""Modules of the extra ``export`` that a format is made of; safetensors comes with timm."""


def choose_format(name: Any) -> Format:
    """Return the format called ``name``.

    Raises:
        UserError: there is none, or it is not installed.
    """
    if name not in NEEDED:
        raise UserError(f"format={name}: there is no such format; nearest first: {nearest_first(str(name), NEEDED)}")
    require_installed(f"format={name}", *NEEDED[name])
    if name == "onnx":
        from efficientconv.deploy import onnx_file

        return Format(".onnx", onnx_file.write, onnx_file.open_runner)
    from efficientconv.deploy import torch_file

    if name == "torch_export":
        return Format(".pt2", torch_file.write_program, torch_file.open_program)
    return Format(".safetensors", torch_file.write_weights, torch_file.open_weights)


def require_installed(purpose: str, *modules: str) -> None:
    """Refuse what needs a module that is not there.

    Raises:
        UserError: names the purpose, the module and the extra that brings it.
    """
    for module in modules:
        if find_spec(module) is None:
            raise UserError(f'{purpose} needs {module}, which is not installed: pip install "efficientconv[export]"')
