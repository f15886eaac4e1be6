"""What an operation does to an image, found by trying it on a small one.

Models bring activations and poolings of their own, as modules, functions and methods. A list of names would never be
complete; a change of one element of the input tells at once which elements of the output hang on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Operation = Callable[[Tensor], Any]

_SIDE = 8
_BIG = 100.0  # decides every maximum that it takes part in


def is_elementwise(operation: Operation) -> bool:
    """Tell whether each element of the output hangs on the same element of the input alone.

    An operation on the image itself may know its number of channels, so where 4 are refused, 3 and 1 are tried.
    """
    answers = ((channels, _changed(operation, channels)) for channels in (4, 3, 1))
    for channels, changed in answers:
        if changed is not None:
            same_shape = changed.shape == (1, channels, _SIDE, _SIDE)
            return same_shape and bool(changed.sum() == changed[_place(channels)])
    return False


def is_channelwise(operation: Operation) -> bool:
    """Tell whether each output channel hangs on the same input channel alone, for any number of channels."""
    return all(_is_channelwise(operation, channels) for channels in (4, 6))


def _is_channelwise(operation: Operation, channels: int) -> bool:
    changed = _changed(operation, channels)
    if changed is None or changed.dim() != 4 or changed.shape[:2] != (1, channels):
        return False
    channel = _place(channels)[1]
    return bool(changed.sum() == changed[:, channel].sum())


def _place(channels: int) -> tuple[int, int, int, int]:
    """Return which element is changed: in the second channel, since shuffles leave the first one where it is."""
    return 0, min(1, channels - 1), 3, 5


def _changed(operation: Operation, channels: int) -> Tensor | None:
    """Return which outputs change with the input at ``_place``, or None where the operation does not take images."""
    shape = (1, channels, _SIDE, _SIDE)
    image = torch.linspace(-2, 2, channels * _SIDE * _SIDE, device="cpu").reshape(shape)
    other = image.clone()
    other[_place(channels)] += _BIG
    try:
        before, after = (_run(operation, x) for x in (image, other))
    except Exception:  # what it refuses it does not do element by element; only the answer matters here
        return None
    if not isinstance(before, Tensor) or not isinstance(after, Tensor) or before.shape != after.shape:
        return None
    return before != after


def _run(operation: Operation, image: Tensor) -> Any:
    with torch.random.fork_rng(devices=[]), torch.no_grad(), torch.device("cpu"):  # whatever the caller's default is
        torch.manual_seed(0)  # dropout drops the same elements both times
        return operation(image.clone())
