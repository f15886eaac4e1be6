"""What an exported file says of itself: classes, what it takes, whose method it is, and which run it came from."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from efficientconv.datasets.image_format import ImageFormat
from efficientconv.deploy.trained import TrainedRun
from efficientconv.errors import UserError
from efficientconv.layers import ConvVariant
from efficientconv.training.provenance import versions

KEY = "efficientconv"
FROM_SUMMARY = ("seed", "epochs", "best", "last", "test", "commit", "device", "overrides", "started")


@dataclass(frozen=True)
class Metadata:
    """The metadata of an exported file.

    Attributes:
        class_names: in the order of the outputs.
        image_format: what the network itself takes.
        has_preprocessing: whether the file takes photographs of any size and puts out probabilities.
        quantize: ``none`` or ``int8``.
        citations: the papers of the convolutions in it.
        provenance: the run, its options, its figures, the versions that trained and that exported it.
    """

    class_names: list[str]
    image_format: ImageFormat
    has_preprocessing: bool
    quantize: str
    citations: list[str]
    provenance: dict[str, Any]

    def to_strings(self) -> dict[str, str]:
        """Return keys and strings, as all formats store them; whatever is no text is JSON."""
        return {
            KEY: "1",  # of this layout
            "class_names": json.dumps(self.class_names),
            "image_format": json.dumps(self.image_format.to_dict()),
            "has_preprocessing": json.dumps(self.has_preprocessing),
            "quantize": self.quantize,
            "citations": json.dumps(self.citations),
            "provenance": json.dumps(self.provenance),
        }

    @classmethod
    def from_strings(cls, strings: Mapping[str, str], file: str) -> Metadata:
        """Read what ``to_strings`` wrote.

        Raises:
            UserError: ``file`` was written by another program.
        """
        try:
            return cls(
                class_names=json.loads(strings["class_names"]),
                image_format=ImageFormat.from_dict(json.loads(strings["image_format"])),
                has_preprocessing=json.loads(strings["has_preprocessing"]),
                quantize=strings["quantize"],
                citations=json.loads(strings["citations"]),
                provenance=json.loads(strings["provenance"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{file} does not say what its classes are: efficientconv export did not write it"
            ) from error


def citations(model: nn.Module) -> list[str]:
    """Return the papers of the convolution variants in ``model``: the second paragraph of each layer's file."""
    modules = dict.fromkeys(type(m).__module__ for m in model.modules() if isinstance(m, ConvVariant))
    documents = [sys.modules[name].__doc__ or "" for name in modules]
    return [" ".join(text.split("\n\n")[1].split()) for text in documents if "\n\n" in text]


def provenance(trained: TrainedRun, weights: str) -> dict[str, Any]:
    """Return where a file came from: the run, its options, its figures, and the versions on both ends.

    Args:
        trained: the run.
        weights: what its weights are called.
    """
    summary = trained.summary
    return {
        "run": str(trained.run.path),
        "weights": weights,
        "choices": trained.config.get("choices", {}),
        **{key: summary[key] for key in FROM_SUMMARY if key in summary},
        "trained_with": summary.get("versions"),
        "exported_with": versions(),
    }
