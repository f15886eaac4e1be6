"""Convolutions that stand where ``nn.Conv2d`` stands: one paper, one file."""

from efficientconv.layers.base import ConvVariant, penalized_layers, regularization_loss
from efficientconv.layers.bdrconv import BDRConv2d
from efficientconv.layers.bsconv import BSConvS, BSConvU, OrthonormalConv2d
from efficientconv.layers.depthwise_separable import DepthwiseSeparableConv2d
from efficientconv.layers.doconv import DOConv2d
from efficientconv.layers.slimconv import SlimConv2d
from efficientconv.layers.spconv import SPConv2d

__all__ = [
    "BDRConv2d",
    "BSConvS",
    "BSConvU",
    "ConvVariant",
    "DOConv2d",
    "DepthwiseSeparableConv2d",
    "OrthonormalConv2d",
    "SPConv2d",
    "SlimConv2d",
    "penalized_layers",
    "regularization_loss",
]
