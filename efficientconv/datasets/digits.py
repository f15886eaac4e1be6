"""The 1,797 handwritten digits that scikit-learn carries with it: real images, no download.

8×8 pixels of 17 grey levels, from the test part of E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten
Digits", UCI Machine Learning Repository, 1998, doi:10.24432/C50P49.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from efficientconv.datasets.base import Splits
from efficientconv.datasets.grey import in_channels, require_channels
from efficientconv.datasets.in_memory import InMemoryData
from efficientconv.datasets.split import stratified_split
from efficientconv.loaders.memory import LabeledImages

SIZE = 32  # pixels, CIFAR's
TEST_FRACTION = 0.2  # 359 images; the set has no split of its own


class Digits(InMemoryData):
    """Handwritten digits, upsampled to 32×32 grey pixels; a fixed fifth of each class is the test set.

    There is no ``flip``: a mirrored digit is not a digit.

    Args:
        channels: 1, the grey image as it is, or 3, three equal channels, for networks that take colours.
        common: the arguments of ``InMemoryData`` but for ``flip``.

    Raises:
        UserError: another number of channels.
    """

    title = "digits"

    def __init__(self, channels: int = 3, **common: Any) -> None:
        super().__init__(**common, flip=False)
        require_channels(channels)
        self.channels = channels

    def load(self) -> Splits[LabeledImages]:
        """Upsample the images and divide them, the same way whatever the seed."""
        from sklearn.datasets import load_digits  # takes a second

        digits = load_digits()
        self.class_names = [str(name) for name in digits.target_names]
        grey = torch.from_numpy(digits.images).unsqueeze(1).float() * (255 / 16)  # (1797, 1, 8, 8), levels 0 to 16
        large = F.interpolate(grey, size=(SIZE, SIZE), mode="bilinear").round().to(torch.uint8).squeeze(1)
        everything = LabeledImages(in_channels(large, self.channels), torch.from_numpy(digits.target).long())
        test, train = stratified_split(everything.labels, TEST_FRACTION, seed=0)
        return Splits(everything.subset(train), everything.subset(test))
