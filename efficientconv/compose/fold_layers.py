"""Folding the layers of a network for inference: this project's by their ``fold()``, timm's by timm's function."""

from __future__ import annotations

import copy

from torch import nn

from efficientconv.layers import ConvVariant
from efficientconv.profiling.meta import QuickMeta


def fold_layers(model: nn.Module) -> nn.Module:
    """Return a copy of a network with every layer that folds for inference folded; the rest of it does not change."""
    with next(model.parameters()).device, QuickMeta():
        folded = _folded_by_timm(model) if _is_of_timm(model) else copy.deepcopy(model)
        if isinstance(folded, ConvVariant):
            return folded.fold()
        for name, module in list(folded.named_modules(remove_duplicate=False)):
            if isinstance(module, ConvVariant):
                folded.set_submodule(name, module.fold())
    return folded


def _is_of_timm(model: nn.Module) -> bool:
    return any(type(module).__module__.startswith("timm.") for module in model.modules())


def _folded_by_timm(model: nn.Module) -> nn.Module:
    from timm.utils import reparameterize_model  # takes seconds, which other networks do not need

    return reparameterize_model(model)  # a copy
