"""The 1,797 handwritten digits that scikit-learn carries with it: real images, no download.

8×8 pixels of 17 grey levels, from the test part of E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten
Digits", UCI Machine Learning Repository, 1998, doi:10.24432/C50P49.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from efficientconv.datasets.base import Splits, stratified_split
from efficientconv.datasets.in_memory import InMemoryData, in_channels, require_channels
from efficientconv.errors import require_whole
from efficientconv.loaders.memory import LabeledImages

TEST_FRACTION = 0.2  # 359 images; the set has no split of its own


class Digits(InMemoryData):
    """Handwritten digits, grey and upsampled; a fixed fifth of each class is the test set.

    There is no ``flip``: a mirrored digit is not a digit.

    Args:
        image_size: height and width in pixels, to which the 8×8 are upsampled; null is CIFAR's 32.
        channels: 1, the grey image as it is, or 3, three equal channels, for networks that take colours.
        common: the arguments of ``InMemoryData`` but for ``flip``.

    Raises:
        UserError: another number of channels, or a size that cannot be.
    """

    title = "digits"

    def __init__(self, image_size: int | None = 32, channels: int = 3, **common: Any) -> None:
        super().__init__(**common, flip=False)
        require_channels(channels)
        self.image_size = 32 if image_size is None else image_size
        require_whole("data.image_size", self.image_size, least=1)
        self.channels = channels

    def load(self) -> Splits[LabeledImages]:
        """Upsample the images and divide them, the same way whatever the seed."""
        from sklearn.datasets import load_digits  # takes a second

        digits = load_digits()
        self.class_names = [str(name) for name in digits.target_names]
        grey = torch.from_numpy(digits.images).unsqueeze(1).float() * (255 / 16)  # (1797, 1, 8, 8), levels 0 to 16
        size = (self.image_size, self.image_size)
        large = F.interpolate(grey, size=size, mode="bilinear").round().to(torch.uint8).squeeze(1)
        everything = LabeledImages(in_channels(large, self.channels), torch.from_numpy(digits.target).long())
        test, train = stratified_split(everything.labels, TEST_FRACTION, seed=0)
        return Splits(everything.subset(train), everything.subset(test))
