"""What a network was trained to see: everything that is needed to show it another image, without the data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from efficientconv.datasets.base import ImageData
from efficientconv.datasets.streamed import StreamedData
from efficientconv.transforms.crops import ResizeCrop


@dataclass(frozen=True)
class ImageFormat:
    """How an image of any size is turned into what the network takes.

    Attributes:
        channels: 3, or 1 for grey.
        size: height and width, in pixels.
        resize: to so many pixels an image is scaled before its middle is cut out.
        keep_aspect: whether that is its shorter side; else it is both.
        mean: of each channel, of pixels scaled to [0, 1].
        std: likewise.
    """

    channels: int
    size: int
    resize: int
    keep_aspect: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, data: ImageData) -> ImageFormat | None:
        """Read it from a data set after ``setup``; None where images are not square, or their crop is no middle."""
        channels, height, width = data.input_size
        resize, keep_aspect = height, True
        if isinstance(data, StreamedData):
            if not isinstance(data.eval_crop, ResizeCrop):
                return None
            resize, keep_aspect = data.eval_crop.resize, data.eval_crop.keep_aspect
        if height != width:
            return None
        mean, std = (0.0,) * channels, (1.0,) * channels
        if data.normalization is not None:
            mean, std = data.normalization.mean, data.normalization.std
        return cls(channels, height, resize, keep_aspect, tuple(mean), tuple(std))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON has them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ImageFormat:
        """Read what ``to_dict`` wrote."""
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})
