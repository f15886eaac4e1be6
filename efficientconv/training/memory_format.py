"""The memory format of weights and images: NHWC, torch's ``channels_last``, wherever it is not slower than NCHW."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SLOWER_ON_CPU = ("SCConv2d", "CondConv2d", "ODConv2d")
"""Whole ResNet-20s on 2 CPU cores, batch 64, train in NHWC 1.1 (plain) to 2.2 (BDRConv) times as fast as in NCHW, but
with one of these 0.94 times (SCConv: 197 against 210 images/s) or less."""


def use_channels_last(wanted: bool | str, conv: Mapping[str, Any], on_cuda: bool) -> bool:
    """Decide whether weights and images are stored as NHWC.

    Args:
        wanted: ``channels_last`` of the configuration; ``auto`` takes it but for the convolutions that it slows down.
        conv: the configuration of the convolution.
        on_cuda: whether training runs on a CUDA device, where tensor cores want NHWC whatever the convolution.
    """
    if wanted != "auto":
        return bool(wanted)
    layer = (conv["layer"] or {}).get("_target_", "")
    return on_cuda or layer.rpartition(".")[2] not in SLOWER_ON_CPU
