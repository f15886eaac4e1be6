"""Parts of a network that do not train."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatch

from torch import nn

from efficientconv.errors import UserError, nearest_first
from efficientconv.layers.batch_norm import BATCH_NORMS


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Freeze the parameters whose names, or those of modules above them, match.

    Batch norms that match stay in eval mode: Lightning keeps the mode of each module over a whole training.

    Args:
        model: the network, changed in place.
        patterns: as ``fnmatch`` has them, of dotted names: ``stem``, ``stages.0.*``, ``*.bn*``.

    Raises:
        UserError: a pattern matches nothing, or nothing is left to train.
    """
    for pattern in patterns:
        _require_match(model, pattern)
    for name, parameter in model.named_parameters():
        if _matches(name, patterns):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError(f"freeze={_told(patterns)}: everything matches, and nothing would be trained")
    for name, module in model.named_modules():
        if isinstance(module, BATCH_NORMS) and _matches(name, patterns):
            module.eval()


def _require_match(model: nn.Module, pattern: str) -> None:
    if not any(_matches(name, [pattern]) for name, _ in model.named_parameters()):
        names = [name for name, _ in model.named_modules() if name]
        near = nearest_first(pattern, names, most=5)
        raise UserError(f"freeze={_told([pattern])}: matches no part of this network; nearest: {near}")


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(part, pattern) for part in _parts(name) for pattern in patterns)


def _parts(name: str) -> Iterator[str]:
    """Yield a dotted name and those of all modules above it."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def _told(patterns: Sequence[str]) -> str:
    return f"[{','.join(patterns)}]"
