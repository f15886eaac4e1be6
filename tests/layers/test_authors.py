"""The same weights give the same output as the authors' published code; ``golden/README.md`` says how it was run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from efficientconv import layers

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.npz"))


def read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as archive:
        return {name: archive[name] for name in archive.files}


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_output_is_the_authors(path, memory_format):
    golden = read(path)
    arguments = json.loads(str(golden["arguments"]))
    layer = getattr(layers, str(golden["layer"]))(**arguments, dtype=torch.float64)
    state = {name.removeprefix("state/"): torch.from_numpy(value) for name, value in golden.items() if "/" in name}
    layer.load_state_dict(layer.from_authors(state))
    layer = layer.to(memory_format=memory_format)
    x = torch.from_numpy(golden["input"]).contiguous(memory_format=memory_format)
    for mode in ("eval", "train"):
        y = layer.train(mode == "train")(x)
        torch.testing.assert_close(y, torch.from_numpy(golden[mode]), rtol=0, atol=1e-6)


def test_every_paper_has_a_golden_file_of_at_most_50_kilobytes():
    names = {str(read(path)["layer"]) for path in GOLDEN}
    assert names >= {"BSConvU", "BSConvS", "DOConv2d", "SPConv2d", "SlimConv2d", "BDRConv2d"}
    assert names >= {"PConv2d", "ODConv2d", "RepVGGConv2d", "ACConv2d"}
    assert max(path.stat().st_size for path in GOLDEN) <= 50_000
