"""Batches on the training device, epoch after epoch, from a place that a checkpoint can keep.

`epochs` holds the base of all loaders; `memory` serves images that are in memory, `stream` is what the two loaders of
image files share: `torch_loader` (processes with Pillow) and `dali_loader` (NVIDIA DALI).
"""

from efficientconv.loaders.epochs import EpochLoader
from efficientconv.loaders.memory import InMemoryLoader, LabeledImages

__all__ = ["EpochLoader", "InMemoryLoader", "LabeledImages"]
