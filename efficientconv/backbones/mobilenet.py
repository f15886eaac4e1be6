"""MobileNets as BSConv's tables define them.

A. Howard et al.: MobileNets, 2017, arXiv 1704.04861; M. Sandler et al.: MobileNetV2, CVPR 2018, arXiv 1801.04381;
A. Howard et al.: Searching for MobileNetV3, ICCV 2019, arXiv 1905.02244. BSConv (D. Haase, M. Amthor, CVPR 2020, arXiv
2003.13549) differs from these papers and from torchvision's networks:

- a batch norm on the image, a 1×1 convolution as the classifier, and its own initialisation;
- channels times ``width`` are rounded down, not to multiples of 8; the last convolution never narrows;
- the first unit of V2 and V3 has an expansion convolution although it does not expand;
- V3's squeeze-and-excitation follows the activation, its ReLU layer is a quarter of the expanded width, V3-small has
  one more before the pool, and the classifier follows the pool at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from efficientconv.backbones.checks import scale_channels
from efficientconv.backbones.staged import StagedNet, build_stages, check_stem, conv_norm, named_sequence
from efficientconv.layers.depthwise_separable import DepthwiseSeparableConv2d


class SqueezeExcite(nn.Module):
    """Scales each channel by hardsigmoid(1×1(ReLU(1×1(mean over the grid)))), a quarter as wide in between.

    Raises:
        ValueError: fewer than 4 channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels < 4:
            raise ValueError(f"channels={channels}: squeeze-and-excitation needs at least 4; use a larger width")
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.squeeze = nn.Conv2d(channels, channels // 4, 1)
        self.activation = nn.ReLU(inplace=True)
        self.excite = nn.Conv2d(channels // 4, channels, 1)
        self.gate = nn.Hardsigmoid(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, channels, H, W)`` to the same shape."""
        scale = self.activation(self.squeeze(self.pool(x)))  # (N, channels / 4, 1, 1)
        return x * self.gate(self.excite(scale))


class Bottleneck(NamedTuple):
    """A row of the architecture's table: an inverted residual unit, at width 1."""

    kernel_size: int
    expanded: int
    out_channels: int
    squeeze_excite: bool
    activation: Callable[..., nn.Module]
    stride: int


class Architecture(NamedTuple):
    """A MobileNet of inverted residual units, at width 1."""

    stem_channels: int
    rows: Sequence[Bottleneck]
    neck_channels: int
    neck_excitation: bool
    activation: Callable[..., nn.Module]


class InvertedResidual(nn.Module):
    """1×1 expansion → depthwise → squeeze-and-excitation → linear 1×1 projection, plus x where the shape stays."""

    def __init__(self, in_channels: int, row: Bottleneck) -> None:
        super().__init__()
        kernel_size, expanded, out_channels, squeeze_excite, activation, stride = row
        self.expansion = conv_norm(in_channels, expanded, 1, activation=activation)
        self.depthwise = conv_norm(expanded, expanded, kernel_size, stride, groups=expanded, activation=activation)
        self.squeeze_excite = SqueezeExcite(expanded) if squeeze_excite else nn.Identity()
        self.projection = conv_norm(expanded, out_channels, 1, activation=None)
        self.residual = in_channels == out_channels and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, ⌈H/stride⌉, ⌈W/stride⌉)``."""
        out = self.projection(self.squeeze_excite(self.depthwise(self.expansion(x))))
        return x + out if self.residual else out


V1_STAGES = ((64,), (128,) * 2, (256,) * 2, (512,) * 6, (1024,) * 2)
V1_STRIDES = (1, 2, 2, 2, 2)


def _v2_rows() -> list[Bottleneck]:
    """Table 2 of the paper: expansion factor, channels, units and first stride of each line."""
    lines = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    rows = []
    in_channels = 32
    for expansion, channels, units, stride in lines:
        for index in range(units):
            rows.append(Bottleneck(3, expansion * in_channels, channels, False, nn.ReLU6, 1 if index else stride))
            in_channels = channels
    return rows


V2 = Architecture(32, _v2_rows(), 1280, False, nn.ReLU6)

V3_LARGE = Architecture(
    stem_channels=16,
    rows=[
        Bottleneck(3, 16, 16, False, nn.ReLU, 1),
        Bottleneck(3, 64, 24, False, nn.ReLU, 2),
        Bottleneck(3, 72, 24, False, nn.ReLU, 1),
        Bottleneck(5, 72, 40, True, nn.ReLU, 2),
        Bottleneck(5, 120, 40, True, nn.ReLU, 1),
        Bottleneck(5, 120, 40, True, nn.ReLU, 1),
        Bottleneck(3, 240, 80, False, nn.Hardswish, 2),
        Bottleneck(3, 200, 80, False, nn.Hardswish, 1),
        Bottleneck(3, 184, 80, False, nn.Hardswish, 1),
        Bottleneck(3, 184, 80, False, nn.Hardswish, 1),
        Bottleneck(3, 480, 112, True, nn.Hardswish, 1),
        Bottleneck(3, 672, 112, True, nn.Hardswish, 1),
        Bottleneck(5, 672, 160, True, nn.Hardswish, 2),
        Bottleneck(5, 960, 160, True, nn.Hardswish, 1),
        Bottleneck(5, 960, 160, True, nn.Hardswish, 1),
    ],
    neck_channels=960,
    neck_excitation=False,
    activation=nn.Hardswish,
)

V3_SMALL = Architecture(
    stem_channels=16,
    rows=[
        Bottleneck(3, 16, 16, True, nn.ReLU, 2),
        Bottleneck(3, 72, 24, False, nn.ReLU, 2),
        Bottleneck(3, 88, 24, False, nn.ReLU, 1),
        Bottleneck(5, 96, 40, True, nn.Hardswish, 2),
        Bottleneck(5, 240, 40, True, nn.Hardswish, 1),
        Bottleneck(5, 240, 40, True, nn.Hardswish, 1),
        Bottleneck(5, 120, 48, True, nn.Hardswish, 1),
        Bottleneck(5, 144, 48, True, nn.Hardswish, 1),
        Bottleneck(5, 288, 96, True, nn.Hardswish, 2),
        Bottleneck(5, 576, 96, True, nn.Hardswish, 1),
        Bottleneck(5, 576, 96, True, nn.Hardswish, 1),
    ],
    neck_channels=576,
    neck_excitation=True,
    activation=nn.Hardswish,
)


def mobilenetv1(num_classes: int, *, width: float = 1, stem: str = "imagenet") -> StagedNet:
    """Return MobileNetV1: thirteen depthwise-separable units.

    Args:
        num_classes: number of logits.
        width: multiplies all channels.
        stem: ``imagenet``, or ``cifar``, where the stem and the first stage of stride 2 keep the size.

    Raises:
        ValueError: invalid ``width``, ``stem`` or ``num_classes``.
    """
    stem_channels = scale_channels(32, width)
    widths = [[scale_channels(channels, width) for channels in stage] for stage in V1_STAGES]
    return StagedNet(
        data_norm=nn.BatchNorm2d(3),
        stem=_stem(stem, stem_channels, nn.ReLU),
        stages=build_stages(_separable_unit, stem_channels, widths, _strides(stem, V1_STRIDES)),
        neck=nn.Identity(),
        channels=widths[-1][-1],
        num_classes=num_classes,
    )


def mobilenetv2(num_classes: int, *, width: float = 1, stem: str = "imagenet") -> StagedNet:
    """Return MobileNetV2: seventeen inverted residual units and a 1×1 convolution to 1280 channels.

    The arguments and errors are those of ``mobilenetv1``.
    """
    return _inverted(V2, num_classes, width, stem)


def mobilenetv3_small(num_classes: int, *, width: float = 1, stem: str = "imagenet") -> StagedNet:
    """Return MobileNetV3-Small: eleven inverted residual units, a 1×1 convolution to 576 channels and its excitation.

    The arguments and errors are those of ``mobilenetv1``.
    """
    return _inverted(V3_SMALL, num_classes, width, stem)


def mobilenetv3_large(num_classes: int, *, width: float = 1, stem: str = "imagenet") -> StagedNet:
    """Return MobileNetV3-Large: fifteen inverted residual units and a 1×1 convolution to 960 channels.

    The arguments and errors are those of ``mobilenetv1``.
    """
    return _inverted(V3_LARGE, num_classes, width, stem)


def _inverted(net: Architecture, num_classes: int, width: float, stem: str) -> StagedNet:
    stem_channels = scale_channels(net.stem_channels, width)
    neck_channels = scale_channels(net.neck_channels, max(width, 1))
    units = _units(net.rows, stem_channels, width, stem)
    neck = conv_norm(scale_channels(net.rows[-1].out_channels, width), neck_channels, 1, activation=net.activation)
    if net.neck_excitation:
        neck.add_module("squeeze_excite", SqueezeExcite(neck_channels))
    return StagedNet(
        data_norm=nn.BatchNorm2d(3),
        stem=_stem(stem, stem_channels, net.activation),
        stages=units,
        neck=neck,
        channels=neck_channels,
        num_classes=num_classes,
    )


def _units(rows: Sequence[Bottleneck], in_channels: int, width: float, stem: str) -> nn.Sequential:
    units = nn.Sequential()
    for row, stride in zip(rows, _strides(stem, [row.stride for row in rows]), strict=True):
        expanded, out_channels = scale_channels(row.expanded, width), scale_channels(row.out_channels, width)
        row = row._replace(expanded=expanded, out_channels=out_channels, stride=stride)
        units.append(InvertedResidual(in_channels, row))
        in_channels = out_channels
    return units


def _separable_unit(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    return named_sequence(
        conv=DepthwiseSeparableConv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
        norm=nn.BatchNorm2d(out_channels),
        activation=nn.ReLU(inplace=True),
    )


def _stem(stem: str, channels: int, activation: Callable[..., nn.Module]) -> nn.Sequential:
    check_stem(stem)
    return conv_norm(3, channels, 3, stride=2 if stem == "imagenet" else 1, activation=activation)


def _strides(stem: str, strides: Sequence[int]) -> list[int]:
    """Return the strides of the units; for small images the first reduction behind the stem is left out as well."""
    small = list(strides)
    if stem == "cifar":
        small[small.index(2)] = 1
    return small
