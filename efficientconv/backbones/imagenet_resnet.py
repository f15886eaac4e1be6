"""ResNets, ResNeXts and plain nets for images of about 224×224: torchvision's class, and variants that it lacks.

K. He et al.: Deep Residual Learning, CVPR 2016, arXiv 1512.03385; S. Xie et al.: ResNeXt, CVPR 2017, arXiv 1611.05431.

``torchvision.models.ResNet`` is what GluonCV, and with it DO-Conv's tables, call v1b: the 3×3 convolution of a
bottleneck carries the stride. It has no batch norm on the image and a linear classifier, unlike the ImageNet nets of
BSConv's code, for which no count or accuracy was published.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock, Bottleneck

from efficientconv.backbones.checks import check_count, check_layers
from efficientconv.backbones.staged import check_stem


class PlainBlock(BasicBlock):
    """torchvision's basic block without its shortcut."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.downsample = None

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, inplanes, H, W)`` to ``(N, planes, ⌈H/stride⌉, ⌈W/stride⌉)``."""
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)))


def basic_resnet(num_classes: int, *, layers: Sequence[int], stem: str = "imagenet") -> ResNet:
    """Return torchvision's ResNet of basic blocks: two 3×3 convolutions beside a shortcut.

    Args:
        num_classes: number of logits.
        layers: blocks in each of the four stages, of 64, 128, 256 and 512 channels.
        stem: ``imagenet`` (7×7 convolution of stride 2, pool of stride 2) or ``cifar`` (3×3 convolution of stride 1).

    Raises:
        ValueError: invalid ``layers``, ``stem`` or ``num_classes``.
    """
    return _resnet(BasicBlock, num_classes, layers, stem)


def plain_net(num_classes: int, *, layers: Sequence[int], stem: str = "imagenet") -> ResNet:
    """Return the network of ``basic_resnet`` without its shortcuts."""
    return _resnet(PlainBlock, num_classes, layers, stem)


def bottleneck_resnet(
    num_classes: int, *, layers: Sequence[int], groups: int = 1, width_per_group: int = 64, stem: str = "imagenet"
) -> ResNet:
    """Return torchvision's ResNet or ResNeXt of bottlenecks: 1×1, 3×3 with the stride, 1×1.

    Args:
        num_classes: number of logits.
        layers: bottlenecks in each of the four stages, of 256, 512, 1024 and 2048 channels.
        groups: of the 3×3 convolutions.
        width_per_group: channels of a group of the first stage's 3×3 convolutions.
        stem: ``imagenet`` (7×7 convolution of stride 2, pool of stride 2) or ``cifar`` (3×3 convolution of stride 1).

    Raises:
        ValueError: invalid ``layers``, ``groups``, ``width_per_group``, ``stem`` or ``num_classes``.
    """
    check_count("groups", groups)
    check_count("width_per_group", width_per_group)
    return _resnet(Bottleneck, num_classes, layers, stem, groups, width_per_group)


def bottleneck_resnet_v1(
    num_classes: int, *, layers: Sequence[int], conv_bias: bool = True, stem: str = "imagenet"
) -> ResNet:
    """Return He et al.'s first form of the bottleneck ResNet: the first 1×1 convolution carries the stride.

    Args:
        num_classes: number of logits.
        layers: bottlenecks in each of the four stages.
        conv_bias: whether the 1×1 convolutions of the bottlenecks have a bias, as GluonCV gives them.
        stem: ``imagenet`` (7×7 convolution of stride 2, pool of stride 2) or ``cifar`` (3×3 convolution of stride 1).

    Raises:
        ValueError: invalid ``layers``, ``stem`` or ``num_classes``.
    """
    model = _resnet(Bottleneck, num_classes, layers, stem)
    for block in model.modules():
        if isinstance(block, Bottleneck):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
            if conv_bias:
                block.conv1.bias = nn.Parameter(torch.zeros(block.conv1.out_channels))
                block.conv3.bias = nn.Parameter(torch.zeros(block.conv3.out_channels))
    return model


def _resnet(
    block: type[BasicBlock | Bottleneck],
    num_classes: int,
    layers: Sequence[int],
    stem: str,
    groups: int = 1,
    width_per_group: int = 64,
) -> ResNet:
    check_count("num_classes", num_classes)
    check_layers(layers, stages=4)
    check_stem(stem)
    model = ResNet(block, list(layers), num_classes, groups=groups, width_per_group=width_per_group)
    if stem == "cifar":
        model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")  # as torchvision's own
        model.maxpool = nn.Identity()
    return model
