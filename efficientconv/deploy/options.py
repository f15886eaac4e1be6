"""What the command line asks to be exported, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from efficientconv.errors import UserError, require_whole

QUANTIZE = ("none", "int8")


@dataclass(frozen=True)
class Options:
    """What to write and how.

    Attributes:
        format: ``onnx``, ``torch_export`` or ``safetensors``.
        quantize: ``none`` or ``int8``.
        batch: how many images the file takes at once; None is any number.
        preprocessing: whether it takes photographs of any size and puts out probabilities.
        images: on how many test images it is proved.
        calibration: by how many training images it is quantised.

    Raises:
        UserError: a value that cannot be, or two that do not go together.
    """

    format: str
    quantize: str
    batch: int | None
    preprocessing: bool
    images: int
    calibration: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Options:
        """Read them from ``configs/export.yaml``."""
        if config["batch"] != "dynamic":
            require_whole("batch", config["batch"], least=1)
        batch = None if config["batch"] == "dynamic" else config["batch"]
        names = ("format", "quantize", "preprocessing", "images", "calibration")
        return cls(batch=batch, **{name: config[name] for name in names})

    def __post_init__(self) -> None:
        require_whole("images", self.images, least=1)
        require_whole("calibration", self.calibration, least=1)
        if self.quantize not in QUANTIZE:
            raise UserError(f"quantize={self.quantize}: must be one of {', '.join(QUANTIZE)}")
        if not isinstance(self.preprocessing, bool):
            raise UserError(f"preprocessing={self.preprocessing}: must be true or false")
        if self.quantize == "int8" and self.format != "onnx":
            raise UserError(f"quantize=int8: is for format=onnx, and this is format={self.format}")
        if self.preprocessing and self.format == "safetensors":
            raise UserError("preprocessing=true: format=safetensors holds weights alone; onnx and torch_export can")
