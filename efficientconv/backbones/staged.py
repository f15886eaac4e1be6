"""The skeleton that all networks of BSConv's tables share, CIFAR ResNets and MobileNets alike.

D. Haase, M. Amthor: Rethinking Depthwise Separable Convolutions, CVPR 2020, arXiv 2003.13549; the initialisation and
the batch norm on the image, which takes the place of normalisation in the data pipeline, are those of the authors'
code (v0.4.0).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from efficientconv.backbones.checks import check_choice, check_count

STEMS = ("imagenet", "cifar")
"""The stems for images of about 224 and of about 32 pixels a side."""

Unit = Callable[[int, int, int], nn.Module]
"""Builds one unit from its input channels, output channels and stride."""


class StagedNet(nn.Module):
    """Data norm → stem → stages → neck → global average pool → 1×1 convolution with bias.

    Maps ``(N, 3, H, W)`` to ``(N, num_classes)`` logits. Use ``nn.Identity()`` for a part that a network lacks.

    Args:
        data_norm: the norm on the image.
        stem: the first convolution with its norm, activation and pool, if any.
        stages: the units.
        neck: the layers between the last stage and the pool, with ``channels`` output channels.
        channels: input channels of the classifier.
        num_classes: output channels of the classifier.

    Raises:
        ValueError: ``num_classes`` is no whole number of at least 1.
    """

    def __init__(
        self,
        *,
        data_norm: nn.Module,
        stem: nn.Module,
        stages: nn.Module,
        neck: nn.Module,
        channels: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        check_count("num_classes", num_classes)
        self.data_norm = data_norm
        self.stem = stem
        self.stages = stages
        self.neck = neck
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Conv2d(channels, num_classes, kernel_size=1)
        self._initialise()

    def _initialise(self) -> None:
        for module in nn.ModuleList([self.stem, self.stages, self.neck]).modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.xavier_normal_(self.classifier.weight)  # its bias keeps torch's default, as in the authors' code

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits ``(N, num_classes)`` of the images ``x: (N, 3, H, W)``."""
        x = self.stem(self.data_norm(x))
        x = self.neck(self.stages(x))  # (N, channels, H/s, W/s)
        return self.classifier(self.pool(x)).flatten(1)


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    groups: int = 1,
    activation: Callable[..., nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
    """Return a convolution without bias that keeps the size up to its stride, its batch norm, and the activation."""
    padding = kernel_size // 2
    block = named_sequence(
        conv=nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False),
        norm=nn.BatchNorm2d(out_channels),
    )
    if activation is not None:
        block.add_module("activation", activation(inplace=True))
    return block


def norm_activation(channels: int) -> nn.Sequential:
    """Return a batch norm and a ReLU."""
    return named_sequence(norm=nn.BatchNorm2d(channels), activation=nn.ReLU(inplace=True))


def named_sequence(**modules: nn.Module) -> nn.Sequential:
    """Return the modules one after the other, each under its own name."""
    return nn.Sequential(OrderedDict(modules))


def build_stages(
    unit: Unit, in_channels: int, widths: Sequence[Sequence[int]], strides: Sequence[int]
) -> nn.Sequential:
    """Return one sequence of units a stage; the first unit of a stage has its stride, the others 1.

    Args:
        unit: builds one unit.
        in_channels: of the first unit.
        widths: output channels, unit by unit, stage by stage.
        strides: one a stage.
    """
    stages = nn.Sequential()
    for stage_widths, stage_stride in zip(widths, strides, strict=True):
        stage = nn.Sequential()
        for index, out_channels in enumerate(stage_widths):
            stage.append(unit(in_channels, out_channels, stage_stride if index == 0 else 1))
            in_channels = out_channels
        stages.append(stage)
    return stages


def check_stem(stem: str) -> None:
    """Raise ``ValueError`` unless ``stem`` names one of the stems."""
    check_choice("stem", stem, STEMS)
