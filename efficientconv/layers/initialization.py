"""How the papers' layers start: torch's own initialisation, or Kaiming's as torchvision's ResNets have it."""

from __future__ import annotations

from torch import nn

from efficientconv.layers.batch_norm import BATCH_NORMS


def reset_to_default(layer: nn.Module) -> None:
    """Give every convolution, linear map and norm inside ``layer`` torch's own initialisation."""
    for module in layer.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.GroupNorm, *BATCH_NORMS)):
            module.reset_parameters()


def reset_to_kaiming_fan_out(layer: nn.Module) -> None:
    """As ``reset_to_default``, with the weights of convolutions normal with variance 2 / fan-out (He et al., 2015).

    Biases keep torch's default, as in the model-level loops of the papers' code.
    """
    reset_to_default(layer)
    for module in layer.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
