"""Weights from elsewhere: where they lie, what they are worth as a record, and into which network they fit."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from efficientconv.errors import UserError, first_line
from efficientconv.runs.directory import RunDirectory
from efficientconv.training.checkpoints import read_tensors
from efficientconv.training.warm_start.authors import in_our_names

log = logging.getLogger(__name__)

PREFIXES = ("model.", "module.", "_orig_mod.")  # of a Classifier, of DistributedDataParallel, of torch.compile
STATE_KEYS = ("state_dict", "model", "model_state_dict")  # Lightning's and most others', timm's, BSConv's
MOST_KEYS = 5  # in a message


@dataclass(frozen=True)
class Weights:
    """A network's state and where it comes from.

    Attributes:
        source: as the user named it.
        which: ``last``, ``ema`` or ``file``.
        state: keys without any prefix, tensors on the CPU.
        sha256: of the file.
        run: the run directory, where it is one.
    """

    source: str
    which: str
    state: dict[str, Tensor]
    sha256: str
    run: RunDirectory | None = None

    def to_dict(self) -> dict[str, str]:
        """Return what a summary keeps."""
        return {"source": self.source, "weights": self.which, "sha256": self.sha256}


def read_weights(source: str) -> Weights:
    """Read the last weights of a run directory, averaged ones where it averages, or those of a file, as data alone.

    Args:
        source: a run directory, a checkpoint of one, or a state saved by torch or as safetensors.

    Raises:
        UserError: there is nothing there, it is damaged, or it holds more than tensors and plain values.
    """
    path = Path(source)
    if path.is_dir():
        run = RunDirectory(path)
        run.require()
        file = run.checkpoint("last")
        state = read_tensors(file)
        which = "ema" if "averaging_state" in state else "last"
        return Weights(source, which, network_state(state, source), _sha256(file), run)
    if not path.is_file():
        raise UserError(f"init_from={source}: there is no such run directory or file")
    state = _read_safetensors(path) if path.suffix == ".safetensors" else read_tensors(path)
    return Weights(source, "file", network_state(state, source), _sha256(path))


def network_state(content: Mapping[str, Any], source: str) -> dict[str, Tensor]:
    """Find the state of a network in what a file holds, and take the prefixes of its wrappers off the keys.

    Raises:
        UserError: there are no tensors with names.
    """
    nested = next((content[key] for key in STATE_KEYS if isinstance(content.get(key), Mapping)), content)
    state = {str(key): value for key, value in nested.items() if isinstance(value, Tensor)}
    if any(key.startswith("model.") for key in state) and "pytorch-lightning_version" in content:
        state = {key: value for key, value in state.items() if key.startswith("model.")}  # not the metrics
    for prefix in PREFIXES:
        if state and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    if not state:
        raise UserError(f"{source} holds no tensors by name: a state_dict of a network is needed")
    return state


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} is no whole file of safetensors ({first_line(error)})") from error


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def sha256_of(state: Mapping[str, Tensor]) -> str:
    """Return a checksum of tensors and their names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def mismatches(model: nn.Module, state: Mapping[str, Tensor], num_classes: int) -> int:
    """Count the keys in which a state and a network differ; 0 where it takes the state, with a new classifier at most.

    The state's names may be those of a paper's authors, see :mod:`efficientconv.training.warm_start.authors`.
    """
    return _compared(model, in_our_names(model, state), num_classes).number


def load(model: nn.Module, weights: Weights, num_classes: int) -> None:
    """Load a state into a network; a classifier of another number of classes keeps its own, and a line says so.

    Args:
        model: the network.
        weights: the state, in this network's names or in those of a paper's authors.
        num_classes: number of logits of ``model``.

    Raises:
        UserError: the state is another network's; says which keys differ, the first of them.
    """
    state = in_our_names(model, weights.state)
    is_translated = state.keys() != weights.state.keys()
    found = _compared(model, state, num_classes)
    if found.number:
        note = " (the authors' names, translated to ours)" if is_translated else ""
        differences = found.in_words(model, state)
        raise UserError(f"init_from={weights.source}: the weights are of another network{note}: {differences}")
    if is_translated:
        log.info("init_from=%s: the names of the authors' code, translated to ours", weights.source)
    if found.classifier:
        module, old = found.classifier[0].rpartition(".")[0], len(state[found.classifier[0]])
        log.info("the classifier, %s, is new: the weights have %d classes, this data %d", module, old, num_classes)
    taken = {key: value for key, value in state.items() if key not in found.classifier}
    model.load_state_dict(taken, strict=False)


@dataclass(frozen=True)
class _Comparison:
    """Where a state differs from a network: keys that it lacks, has besides or in another shape; a new classifier."""

    lacking: list[str]
    extra: list[str]
    reshaped: list[str]
    classifier: list[str]

    @property
    def number(self) -> int:
        return len(self.lacking) + len(self.extra) + len(self.reshaped)

    def in_words(self, model: nn.Module, state: Mapping[str, Tensor]) -> str:
        own = model.state_dict()
        shapes = [f"{key} {tuple(state[key].shape)}, not {tuple(own[key].shape)}" for key in self.reshaped]
        groups = (("they lack", self.lacking), ("the network lacks", self.extra), ("of another shape are", shapes))
        return "; ".join(f"{words} {_first(keys)}" for words, keys in groups if keys)


def _compared(model: nn.Module, state: Mapping[str, Tensor], num_classes: int) -> _Comparison:
    own = model.state_dict()
    counters = {key for key in own if key.endswith("num_batches_tracked")}  # old files lack them
    lacking = [key for key in own if key not in state and key not in counters]
    extra = [key for key in state if key not in own]
    reshaped = [key for key in own if key in state and state[key].shape != own[key].shape]
    if _is_classifier(reshaped, own, state, num_classes):
        return _Comparison(lacking, extra, [], reshaped)
    return _Comparison(lacking, extra, reshaped, [])


def _is_classifier(
    keys: Sequence[str], own: Mapping[str, Tensor], state: Mapping[str, Tensor], num_classes: int
) -> bool:
    """Tell whether ``keys`` are one module's, whose outputs are the classes and nothing else differs."""
    modules = {key.rpartition(".")[0] for key in keys}
    return len(modules) == 1 and all(
        len(own[key]) == num_classes and own[key].shape[1:] == state[key].shape[1:] for key in keys
    )


def _first(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - MOST_KEYS} more" if len(keys) > MOST_KEYS else ""
    return ", ".join(keys[:MOST_KEYS]) + more
