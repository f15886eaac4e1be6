"""Convolutions that stand where ``nn.Conv2d`` stands: one paper, one file."""

from efficientconv.layers.base import ConvVariant, penalized_layers, regularization_loss
from efficientconv.layers.bsconv import BSConvS, BSConvU, OrthonormalConv2d

__all__ = [
    "BSConvS",
    "BSConvU",
    "ConvVariant",
    "OrthonormalConv2d",
    "penalized_layers",
    "regularization_loss",
]
