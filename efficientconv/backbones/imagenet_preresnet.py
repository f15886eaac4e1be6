"""Pre-activation ResNets for images of about 224×224: K. He et al., ECCV 2016, arXiv 1603.05027.

As GluonCV, and with it DO-Conv's tables, define them under the name v2: a batch norm without scale and shift on the
image, then batch norm, ReLU and pool behind the first convolution as in a ResNet. BSConv's code (v0.4.0) has the same
nets but for the scale and shift. The initialisation is BSConv's, as for all networks of ``staged``.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from efficientconv.backbones.checks import check_layers
from efficientconv.backbones.residual import preact_basic_unit, preact_bottleneck
from efficientconv.backbones.staged import (
    StagedNet,
    Unit,
    build_stages,
    check_stem,
    conv_norm,
    named_sequence,
    norm_activation,
)

STEM_CHANNELS = 64
BASIC_CHANNELS = (64, 128, 256, 512)
BOTTLENECK_CHANNELS = (256, 512, 1024, 2048)


def basic_preresnet(num_classes: int, *, layers: Sequence[int], stem: str = "imagenet") -> StagedNet:
    """Return a pre-activation ResNet of units of two 3×3 convolutions.

    Args:
        num_classes: number of logits.
        layers: units in each of the four stages, of 64, 128, 256 and 512 channels.
        stem: ``imagenet`` (7×7 convolution of stride 2, pool of stride 2) or ``cifar`` (3×3 convolution of stride 1).

    Raises:
        ValueError: invalid ``layers``, ``stem`` or ``num_classes``.
    """
    return _preresnet(preact_basic_unit, BASIC_CHANNELS, num_classes, layers, stem)


def bottleneck_preresnet(num_classes: int, *, layers: Sequence[int], stem: str = "imagenet") -> StagedNet:
    """Return a pre-activation ResNet of bottlenecks; its stages have 256, 512, 1024 and 2048 channels.

    The arguments and errors are those of ``basic_preresnet``.
    """
    return _preresnet(preact_bottleneck, BOTTLENECK_CHANNELS, num_classes, layers, stem)


def _preresnet(unit: Unit, channels: Sequence[int], num_classes: int, layers: Sequence[int], stem: str) -> StagedNet:
    check_layers(layers, stages=4)
    widths = [[width] * units for width, units in zip(channels, layers, strict=True)]
    return StagedNet(
        data_norm=nn.BatchNorm2d(3, affine=False),
        stem=_stem(stem),
        stages=build_stages(unit, STEM_CHANNELS, widths, strides=(1, 2, 2, 2)),
        neck=norm_activation(channels[-1]),
        channels=channels[-1],
        num_classes=num_classes,
    )


def _stem(stem: str) -> nn.Module:
    check_stem(stem)
    if stem == "cifar":
        return nn.Conv2d(3, STEM_CHANNELS, 3, padding=1, bias=False)  # the first unit has its norm and ReLU
    return named_sequence(conv=conv_norm(3, STEM_CHANNELS, 7, stride=2), pool=nn.MaxPool2d(3, stride=2, padding=1))
