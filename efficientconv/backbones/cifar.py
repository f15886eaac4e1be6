"""ResNets for images of about 32×32, as BSConv's CIFAR tables define them.

K. He et al., CVPR 2016 (arXiv 1512.03385) and ECCV 2016 (arXiv 1603.05027); S. Zagoruyko, N. Komodakis: Wide Residual
Networks, BMVC 2016 (arXiv 1605.07146). Three stages of 16, 32 and 64 channels times ``width`` behind a 3×3 stem of
always 16. BSConv (D. Haase, M. Amthor, CVPR 2020, arXiv 2003.13549) adds the batch norm on the image, takes option-B
shortcuts where He et al. take option A, and starts with its own initialisation.
"""

from __future__ import annotations

from torch import nn

from efficientconv.backbones.checks import check_choice, scale_channels
from efficientconv.backbones.residual import basic_unit_a, basic_unit_b, preact_basic_unit
from efficientconv.backbones.staged import StagedNet, Unit, build_stages, conv_norm, norm_activation

STEM_CHANNELS = 16
STAGE_CHANNELS = (16, 32, 64)
SHORTCUTS: dict[str, Unit] = {"A": basic_unit_a, "B": basic_unit_b}


def cifar_resnet(
    num_classes: int, *, depth: int = 20, width: float = 1, shortcut: str = "B", data_norm: bool = True
) -> StagedNet:
    """Return a ResNet of basic units for small images.

    Args:
        num_classes: number of logits.
        depth: layers with weights, 6n+2 (n units a stage).
        width: multiplies the channels of the stages.
        shortcut: where the shape changes, ``B`` (1×1 convolution and norm) or ``A`` (padded with zeros).
        data_norm: whether the network begins with a batch norm on the image, as in BSConv.

    Raises:
        ValueError: invalid ``depth``, ``width``, ``shortcut`` or ``num_classes``.
    """
    check_choice("shortcut", shortcut, tuple(SHORTCUTS))
    stages, channels = _stages(SHORTCUTS[shortcut], units_per_stage(depth, 2), width)
    return StagedNet(
        data_norm=nn.BatchNorm2d(3) if data_norm else nn.Identity(),
        stem=conv_norm(3, STEM_CHANNELS, 3),
        stages=stages,
        neck=nn.Identity(),
        channels=channels,
        num_classes=num_classes,
    )


def cifar_preresnet(num_classes: int, *, depth: int = 20, width: float = 1, data_norm: bool = True) -> StagedNet:
    """Return a pre-activation ResNet for small images.

    Args:
        num_classes: number of logits.
        depth: layers with weights, 6n+2 (n units a stage).
        width: multiplies the channels of the stages.
        data_norm: whether the network begins with a batch norm on the image, as in BSConv.

    Raises:
        ValueError: invalid ``depth``, ``width`` or ``num_classes``.
    """
    return _preactivated(num_classes, units_per_stage(depth, 2), width, data_norm)


def wrn(num_classes: int, *, depth: int = 16, width: float = 1, data_norm: bool = True) -> StagedNet:
    """Return a wide ResNet: a pre-activation ResNet whose depth counts the projections too.

    Args:
        num_classes: number of logits.
        depth: layers with weights, 6n+4 (n units a stage).
        width: multiplies the channels of the stages, 10 in WRN-28-10.
        data_norm: whether the network begins with a batch norm on the image, as in BSConv.

    Raises:
        ValueError: invalid ``depth``, ``width`` or ``num_classes``.
    """
    return _preactivated(num_classes, units_per_stage(depth, 4), width, data_norm)


def units_per_stage(depth: int, others: int) -> int:
    """Return n of ``depth`` = 6n + ``others``: three stages of n units of two convolutions, and the other layers.

    Raises:
        ValueError: there is no such n ≥ 1; the message names the depths next to it.
    """
    smallest = 6 + others
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < smallest:
        raise ValueError(f"depth={depth!r}: must be 6n+{others}; the smallest is {smallest}")
    units, excess = divmod(depth - others, 6)
    if excess:
        below = depth - excess
        raise ValueError(f"depth={depth}: must be 6n+{others}; the nearest are {below} and {below + 6}")
    return units


def _preactivated(num_classes: int, units: int, width: float, data_norm: bool) -> StagedNet:
    stages, channels = _stages(preact_basic_unit, units, width)
    return StagedNet(
        data_norm=nn.BatchNorm2d(3) if data_norm else nn.Identity(),
        stem=nn.Conv2d(3, STEM_CHANNELS, 3, padding=1, bias=False),
        stages=stages,
        neck=norm_activation(channels),
        channels=channels,
        num_classes=num_classes,
    )


def _stages(unit: Unit, units: int, width: float) -> tuple[nn.Sequential, int]:
    widths = [[scale_channels(channels, width)] * units for channels in STAGE_CHANNELS]
    return build_stages(unit, STEM_CHANNELS, widths, strides=(1, 2, 2)), widths[-1][-1]
