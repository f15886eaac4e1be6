"""The picture of runs side by side, and the tiles in it."""

import builtins

import numpy as np
import pytest
import torch
from PIL import Image

from efficientconv.errors import UserError
from efficientconv.features.maps import FeatureMaps
from efficientconv.features.picture import draw, tiles
from efficientconv.features.similarity import similarity


def maps_of(channels):
    generator = torch.Generator().manual_seed(channels)
    images = torch.rand(2, 3, 8, 8, generator=generator)
    return FeatureMaps(f"net {channels}", "stem", images, torch.rand(2, channels, 4, 4, generator=generator))


def test_each_map_is_a_tile_over_its_own_range():
    sheet = tiles(torch.stack([torch.eye(4) * 7 - 2, torch.ones(4, 4)]), rows=1)
    assert np.array_equal(sheet[:, :4], np.eye(4))
    assert np.isnan(sheet[:, 4]).all()
    assert (sheet[:, 5:9] == 0).all()
    assert np.isnan(sheet[:, 9:]).all()


@pytest.mark.parametrize("channels", [(3,), (12, 20)])
def test_a_picture_is_as_wide_as_there_are_runs(tmp_path, channels):
    found = [maps_of(count) for count in channels]
    draw(found, [similarity(each.maps) for each in found], image=1, most=16, file=tmp_path / "a.png")
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert picture.shape[1] == 840 * len(channels)
    for part in np.split(picture, len(channels), axis=1):
        assert len(np.unique(part.reshape(-1, 3), axis=0)) > 100


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **settings):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **settings)

    monkeypatch.setattr(builtins, "__import__", without)
    found = maps_of(3)
    with pytest.raises(UserError, match=r"matplotlib is missing; pip install 'efficientconv\[report\]'"):
        draw([found], [similarity(found.maps)], 0, 16, tmp_path / "a.png")
