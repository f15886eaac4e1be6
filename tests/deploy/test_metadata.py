import re

import pytest
from torch import nn

from efficientconv import layers
from efficientconv.datasets.image_format import ImageFormat
from efficientconv.deploy.metadata import Metadata, citations
from efficientconv.errors import UserError
from efficientconv.layers import ConvVariant

VARIANTS = [
    kind
    for kind in (getattr(layers, name) for name in layers.__all__)
    if isinstance(kind, type) and issubclass(kind, ConvVariant) and kind is not ConvVariant
]


@pytest.mark.parametrize("kind", VARIANTS, ids=lambda kind: kind.__name__)
def test_every_layer_names_its_paper(kind):
    layer = kind(
        64, 64, 1 if kind is layers.OrthonormalConv2d else 3, padding=0 if kind is layers.OrthonormalConv2d else 1
    )
    (citation,) = citations(nn.Sequential(layer, layer))
    assert re.search(r"\b(19|20)\d\d\b", citation)
    assert '"' in citation
    assert "\n" not in citation


def test_a_plain_network_cites_none():
    assert citations(nn.Conv2d(3, 3, 3)) == []


def test_survives_strings():
    taken = ImageFormat(1, 28, 32, True, (0.1,), (0.3,))
    metadata = Metadata(["cat", "dög"], taken, True, "int8", ["A, 2020"], {"seed": 0, "best": {"top1": 0.5}})
    strings = metadata.to_strings()
    assert all(isinstance(value, str) for value in strings.values())
    assert Metadata.from_strings(strings, "x.onnx") == metadata


@pytest.mark.parametrize("strings", [{}, {"class_names": "[", "image_format": "{}"}])
def test_another_programs_file_is_refused(strings):
    with pytest.raises(
        UserError, match=r"x.onnx does not say what its classes are: efficientconv export did not write"
    ):
        Metadata.from_strings(strings, "x.onnx")
