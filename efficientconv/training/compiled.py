"""A compiled network that does not compile again for the last batch of an epoch.

That batch is smaller. The compiler would take its size for a variable from then on and compile the network a second
time, for training and for evaluation: minutes on a CPU, for one batch of an epoch, and a more general form.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CompiledNetwork:
    """Calls a network compiled for the batches of the largest size so far, and as it is for smaller ones.

    Training and evaluation have a size each.

    Args:
        model: maps images (N, C, H, W) to logits; compiled in place, so that the keys of its state stay as they are.
        backend: the compiler behind dynamo.
    """

    def __init__(self, model: nn.Module, backend: str = "inductor") -> None:
        model.compile(backend=backend, dynamic=False)
        self.model = model
        self.largest = {True: 0, False: 0}

    def __call__(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, num_classes)."""
        mode, size = self.model.training, len(images)
        self.largest[mode] = max(size, self.largest[mode])
        if size == self.largest[mode]:
            return self.model(images)
        with torch.compiler.set_stance("force_eager"):
            return self.model(images)
