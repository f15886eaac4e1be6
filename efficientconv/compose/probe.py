"""Classify an operation as element-wise or channel-wise by trying it on a small image.

Models bring activations and poolings of their own, as modules, functions and methods. A list of names would never be
complete; a change of one input element shows which output elements depend on it.
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
    """Tell whether each output element depends on the same input element alone.

    An operation on the image may take a fixed number of channels: where it refuses 4, 3 and 1 are tried.
    """
    answers = ((channels, _changed(operation, channels)) for channels in (4, 3, 1))
    for channels, changed in answers:
        if changed is not None:
            same_shape = changed.shape == (1, channels, _SIDE, _SIDE)
            return same_shape and bool(changed.sum() == changed[_place(channels)])
    return False


def is_channelwise(operation: Operation) -> bool:
    """Tell whether each output channel depends on the same input channel alone, for any number of channels."""
    return all(_is_channelwise(operation, channels) for channels in (4, 6))


def _is_channelwise(operation: Operation, channels: int) -> bool:
    changed = _changed(operation, channels)
    if changed is None or changed.dim() != 4 or changed.shape[:2] != (1, channels):
        return False
    channel = _place(channels)[1]
    return bool(changed.sum() == changed[:, channel].sum())


def _place(channels: int) -> tuple[int, int, int, int]:
    """Return the index of the changed element: in the second channel, since shuffles leave the first one in place."""
    return 0, min(1, channels - 1), 3, 5


def _changed(operation: Operation, channels: int) -> Tensor | None:
    """Return a mask of the outputs that change with the input at ``_place``; None for an operation not on images."""
    shape = (1, channels, _SIDE, _SIDE)
    image = torch.linspace(-2, 2, channels * _SIDE * _SIDE, device="cpu").reshape(shape)
    other = image.clone()
    other[_place(channels)] += _BIG
    try:
        before, after = (_run(operation, x) for x in (image, other))
    except Exception:  # an operation that refuses the image is not element-wise; why it does so is of no interest
        return None
    if not isinstance(before, Tensor) or not isinstance(after, Tensor) or before.shape != after.shape:
        return None
    return before != after


def _run(operation: Operation, image: Tensor) -> Any:
    with torch.random.fork_rng(devices=[]), torch.no_grad(), torch.device("cpu"):  # whatever the caller's default is
        torch.manual_seed(0)  # dropout drops the same elements both times
        return operation(image.clone())
