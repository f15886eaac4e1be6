"""Formats of torch itself: an exported program, which needs no code of this project to run, and bare weights."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from efficientconv.deploy.package import Package
from efficientconv.errors import UserError, first_line

EXTRA_FILE = "metadata.json"


def write_program(package: Package, file: Path) -> None:
    """Write what ``torch.export`` makes of the network; ``torch.export.load(file).module()`` runs it.

    Raises:
        UserError: the network does something that cannot be exported.
    """
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # about the exporter's own parts
            program = torch.export.export(package.whole, (package.example,), dynamic_shapes=(package.shapes,))
    except Exception as error:  # the exporter's own classes, or whatever the network meets while it is traced
        other = "" if package.batch else "; for one image at a time, batch=1, it may be"
        raise UserError(f"format=torch_export: this network cannot be exported ({first_line(error)}){other}") from error
    torch.export.save(program, file, extra_files={EXTRA_FILE: json.dumps(package.metadata.to_strings())})


def open_program(file: Path, package: Package) -> Callable[[Tensor], Tensor]:
    """Return what runs the file on a batch as ``package.whole`` takes it."""
    return torch.export.load(file).module()


def write_weights(package: Package, file: Path) -> None:
    """Write the weights of the folded network, by the names that they have in it."""
    from safetensors.torch import save

    state = package.network.state_dict()
    contiguous = {name: value.clone(memory_format=torch.contiguous_format) for name, value in state.items()}
    file.write_bytes(save(contiguous, metadata=package.metadata.to_strings()))


def open_weights(file: Path, package: Package) -> Callable[[Tensor], Tensor]:
    """Return the network with the weights that are in the file."""
    from safetensors.torch import load_file

    network = copy.deepcopy(package.network)
    network.load_state_dict(load_file(file))
    return network
