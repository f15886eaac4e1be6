"""The small network of DO-Conv's published sample (J. Cao et al., TIP 2022, arXiv 2006.12030), for MNIST.

Three 3×3 convolutions of stride 2 with bias, each followed by a ReLU, the last one too, and the mean of each channel.
"""

from __future__ import annotations

from torch import nn

from efficientconv.backbones.checks import check_count
from efficientconv.backbones.staged import named_sequence


def lenet_doconv_sample(num_classes: int, *, in_channels: int = 3) -> nn.Sequential:
    """Return the sample's network, which maps ``(N, in_channels, H, W)`` to ``(N, num_classes)`` logits, none negative.

    Args:
        num_classes: number of logits, 10 in the sample.
        in_channels: of the image: 3, as data sets here have, grey ones too; 1 in the sample, on MNIST.

    Raises:
        ValueError: ``num_classes`` or ``in_channels`` is no whole number of at least 1.
    """
    check_count("num_classes", num_classes)
    check_count("in_channels", in_channels)
    return named_sequence(
        conv1=nn.Conv2d(in_channels, 16, 3, stride=2, padding=1),
        activation1=nn.ReLU(),
        conv2=nn.Conv2d(16, 16, 3, stride=2, padding=1),
        activation2=nn.ReLU(),
        conv3=nn.Conv2d(16, num_classes, 3, stride=2, padding=1),
        activation3=nn.ReLU(),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
    )
