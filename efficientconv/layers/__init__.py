"""Convolutions that stand where ``nn.Conv2d`` stands: one paper, one file."""

from efficientconv.layers.acnet import ACConv2d
from efficientconv.layers.base import ConvVariant, penalized_layers, regularization_loss
from efficientconv.layers.bdrconv import BDRConv2d
from efficientconv.layers.bsconv import BSConvS, BSConvU, OrthonormalConv2d
from efficientconv.layers.condconv import CondConv2d
from efficientconv.layers.depthwise_separable import DepthwiseSeparableConv2d
from efficientconv.layers.doconv import DOConv2d
from efficientconv.layers.dualconv import DualConv2d
from efficientconv.layers.ghost import GhostConv2d
from efficientconv.layers.hetconv import HetConv2d
from efficientconv.layers.octconv import OctConv2d
from efficientconv.layers.odconv import ODConv2d
from efficientconv.layers.pconv import PConv2d
from efficientconv.layers.repvgg import RepVGGConv2d
from efficientconv.layers.scconv import SCConv2d
from efficientconv.layers.slimconv import SlimConv2d
from efficientconv.layers.spconv import SPConv2d
from efficientconv.layers.ssdconv import SSDConv2d

__all__ = [
    "ACConv2d",
    "BDRConv2d",
    "BSConvS",
    "BSConvU",
    "CondConv2d",
    "ConvVariant",
    "DOConv2d",
    "DepthwiseSeparableConv2d",
    "DualConv2d",
    "GhostConv2d",
    "HetConv2d",
    "ODConv2d",
    "OctConv2d",
    "OrthonormalConv2d",
    "PConv2d",
    "RepVGGConv2d",
    "SCConv2d",
    "SPConv2d",
    "SSDConv2d",
    "SlimConv2d",
    "penalized_layers",
    "regularization_loss",
]
