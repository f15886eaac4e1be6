"""``fold()``: a network for inference, proved equal to the trained one on random images at every call.

Our layers fold by themselves, timm's by its own function. What is left is the host's: see ``host``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from efficientconv.compose import fold_layers
from efficientconv.deploy.endings import give_endings
from efficientconv.deploy.host import fold_host
from efficientconv.errors import UserError
from efficientconv.layers import ConvVariant
from efficientconv.layers.folded_form import FoldedForm

TOLERANCE = 1e-4
"""Largest difference allowed, as a part of the largest output: in float32, about 100 convolutions' rounding."""

SIDES = (64, 32, 28, 224, 299)
"""Pixels of the images to try, where nobody says what the network takes: all taps of a 3×3 see an image, if may be."""


def fold(
    model: nn.Module, input_size: tuple[int, int, int] | None = None, *, tolerance: float = TOLERANCE
) -> nn.Module:
    """Return a copy of ``model`` for inference, in which all that folds is folded.

    Args:
        model: any network in float32 or float64; it stays as it is.
        input_size: channels, height and width of the images for the proof; None tries some sizes.
        tolerance: the largest difference allowed, as a part of the largest output, or of 1 if that is larger.

    Raises:
        UserError: the folded network computes something else, or the network runs on no image that was tried.
    """
    original = copy.deepcopy(model).eval()
    folded = fold_layers(original)
    fold_host(folded)
    image = _image(original, input_size)
    # in both memory formats, which layers may compute in different ways
    images = [image.contiguous(memory_format=order) for order in (torch.contiguous_format, torch.channels_last)]
    with torch.no_grad():
        expected = [(x, original(x)) for x in images]
    _prove(folded, expected, tolerance)
    return _with_endings(folded, expected, tolerance)


@torch.no_grad()
def _prove(folded: nn.Module, expected: Sequence[tuple[Tensor, Any]], tolerance: float) -> None:
    """Require each output for its image; raise as ``require_same`` does."""
    for image, output in expected:
        require_same(output, folded(image), tolerance)


def _with_endings(folded: nn.Module, expected: Sequence[tuple[Tensor, Any]], tolerance: float) -> nn.Module:
    """Return a copy of ``folded`` with endings; ``folded`` where there are none, or the network fails with them."""
    if not any(isinstance(module, FoldedForm) for module in folded.modules()):
        return folded
    ended = copy.deepcopy(folded)
    give_endings(ended)
    try:
        _prove(ended, expected, tolerance)
    except Exception:  # it may want anything of a unit that is a graph now
        return folded
    return ended


def require_same(before: object, after: object, tolerance: float) -> float:
    """Return the largest difference of two outputs, tensors or nests of them, as a part of the largest value.

    Raises:
        UserError: it is above ``tolerance``, or no number.
    """
    found = 0.0
    for a, b in zip(_tensors(before), _tensors(after), strict=True):
        largest = max(1.0, a.abs().max().item())
        difference = (a - b).abs().max().item() / largest
        if not difference <= tolerance:
            raise UserError(
                f"folding would change the network: its outputs differ by {difference:.1e} of the largest, "
                f"and {tolerance:.0e} is allowed"
            )
        found = max(found, difference)
    return found


def _tensors(output: object) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor) and leaf.is_floating_point())


def _image(model: nn.Module, input_size: tuple[int, int, int] | None) -> Tensor:
    """Draw two random images that the network runs on.

    Raises:
        UserError: there are none of the sizes that were tried.
    """
    weight = next(model.parameters())
    convs = (module for module in model.modules() if isinstance(module, (nn.Conv2d, ConvVariant)))
    channels = next((conv.in_channels for conv in convs), 3)
    sizes = [input_size] if input_size else [(channels, side, side) for side in SIDES]
    generator = torch.Generator().manual_seed(0)
    why = ""
    for size in sizes:
        image = torch.randn(2, *size, generator=generator).to(weight)
        try:
            with torch.no_grad():
                model(image)
        except Exception as error:  # a network may refuse an image in any way
            why = str(error).partition("\n")[0]
            continue
        return image
    raise UserError(f"input_size={input_size}: the network does not run on such images, so it was not folded ({why})")
