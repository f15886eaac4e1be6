"""VGG-16 for images of about 32×32, as the CIFAR-10 tables of SPConv, HetConv and GhostNet count it.

K. Simonyan, A. Zisserman: Very Deep Convolutional Networks, ICLR 2015, arXiv 1409.1556. Thirteen 3×3 convolutions,
each with a batch norm. Only the first has a bias: with this bias and the batch norm in the head, the FLOPs equal
SPConv's to the last digit (its code for CIFAR was not published).
"""

from __future__ import annotations

from torch import Tensor, nn

from efficientconv.backbones.checks import check_count
from efficientconv.backbones.staged import named_sequence

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG16(nn.Module):
    """Five stages of 3×3 convolutions, norms and ReLUs, each ending in a 2×2 pool; then the head.

    Maps ``(N, 3, H, W)`` to ``(N, num_classes)`` logits. The pools round up, so that images below 32×32 fit as well.

    Args:
        num_classes: number of logits.
        hidden_units: width of the head's hidden layer: 512 makes the head 512-512-classes, with a batch norm and a
            ReLU between; None makes it a single layer, 512-classes.

    Raises:
        ValueError: ``num_classes`` or ``hidden_units`` is no whole number of at least 1.
    """

    def __init__(self, num_classes: int, *, hidden_units: int | None = 512) -> None:
        super().__init__()
        check_count("num_classes", num_classes)
        channels = STAGES[-1][-1]
        self.stages = _stages()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = _head(channels, hidden_units, num_classes)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
            if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits ``(N, num_classes)`` of the images ``x: (N, 3, H, W)``."""
        x = self.pool(self.stages(x))  # (N, 512, 1, 1)
        return self.head(x.flatten(1))


def _stages() -> nn.Sequential:
    stages = nn.Sequential()
    in_channels = 3
    for widths in STAGES:
        stage = nn.Sequential()
        for out_channels in widths:
            stage.append(_conv(in_channels, out_channels))
            in_channels = out_channels
        stage.append(nn.MaxPool2d(2, ceil_mode=True))
        stages.append(stage)
    return stages


def _conv(in_channels: int, out_channels: int) -> nn.Sequential:
    return named_sequence(
        conv=nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=in_channels == 3),
        norm=nn.BatchNorm2d(out_channels),
        activation=nn.ReLU(inplace=True),
    )


def _head(channels: int, hidden_units: int | None, num_classes: int) -> nn.Module:
    if hidden_units is None:
        return nn.Linear(channels, num_classes)
    check_count("hidden_units", hidden_units)
    return named_sequence(
        hidden=nn.Linear(channels, hidden_units),
        norm=nn.BatchNorm1d(hidden_units),
        activation=nn.ReLU(inplace=True),
        classifier=nn.Linear(hidden_units, num_classes),
    )
