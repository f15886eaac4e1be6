"""The memory format of weights and images: NHWC, torch's ``channels_last``, wherever it is not slower than NCHW."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SLOWER_ON_CPU = ("CondConv2d", "ODConv2d")
"""Whole ResNet-20s train in NHWC 0.85 times as fast as in NCHW with CondConv, 0.84 with ODConv, 0.92 with SSDConv and
0.98 with DO-Conv, both within the noise, and 1.03 (SCConv) to 1.58 (BSConv-S) times with every other convolution that
fits there, 1.34 with none (one CPU core, float32, batch 32, best of 3 interleaved rounds)."""


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
