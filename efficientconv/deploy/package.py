"""What every format is given to write: a folded network, how it is called, and what the file says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from efficientconv.deploy.metadata import Metadata
from efficientconv.deploy.preprocessing import Preprocessing


@dataclass(frozen=True)
class Package:
    """A network to be written.

    Attributes:
        network: folded, in eval mode: (N, C, H, W) float32 to logits (N, classes).
        preprocessing: what stands in front of it in the file, or None.
        batch: how many images the file takes at once; None is any number.
        metadata: what the file says of itself.
    """

    network: nn.Module
    preprocessing: Preprocessing | None
    batch: int | None
    metadata: Metadata

    @property
    def whole(self) -> nn.Module:
        """The network as the file has it: alone, or photographs (N, 3, H, W) uint8 to probabilities (N, classes)."""
        if self.preprocessing is None:
            return self.network
        return nn.Sequential(self.preprocessing, self.network, nn.Softmax(1)).eval()

    @property
    def network_example(self) -> Tensor:
        """A batch that the network takes; its numbers say nothing."""
        image_format = self.metadata.image_format
        return torch.zeros(self.batch or 2, image_format.channels, image_format.size, image_format.size)

    @property
    def example(self) -> Tensor:
        """A batch that ``whole`` takes; its numbers say nothing."""
        if self.preprocessing is None:
            return self.network_example
        size = self.metadata.image_format.size
        return torch.zeros(self.batch or 2, 3, size + 5, size + 9, dtype=torch.uint8)

    @property
    def batch_shape(self) -> dict[int, Any]:
        """The dimension that varies from call to call where the number of images does."""
        return {} if self.batch else {0: Dim("batch", min=1)}

    @property
    def shapes(self) -> dict[int, Any]:
        """The dimensions of what ``whole`` takes that vary from call to call."""
        sides = {2: Dim("height", min=1), 3: Dim("width", min=1)} if self.preprocessing else {}
        return self.batch_shape | sides
