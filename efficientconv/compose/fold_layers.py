"""The layers of a network as they are deployed: ours by their own ``fold()``, timm's by its own function."""

from __future__ import annotations

from torch import nn

from efficientconv.layers import ConvVariant


def fold_layers(model: nn.Module) -> nn.Module:
    """Return a copy of a network in which every layer that folds for inference is folded, and the host is as it was."""
    from timm.utils import reparameterize_model

    with next(model.parameters()).device:
        folded = reparameterize_model(model)  # a copy
    if isinstance(folded, ConvVariant):
        return folded.fold()
    for name, module in list(folded.named_modules(remove_duplicate=False)):
        if isinstance(module, ConvVariant):
            folded.set_submodule(name, module.fold())
    return folded
