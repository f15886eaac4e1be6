"""Every file of configs/data makes a data set."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from efficientconv.data import ImageData

FILES = sorted((Path(__file__).parents[2] / "configs" / "data").glob("*.yaml"))
REST = {"recipe": {"batch_size": 64, "normalize": False, "crop_padding": 2, "flip": True}, "seed": 3}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_config_is_short_commented_and_makes_a_data_set(path: Path, tmp_path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# ")
    assert len(text.splitlines()) < 25
    config = OmegaConf.create({**REST, "data": OmegaConf.create(text)})
    if OmegaConf.is_missing(config.data, "root"):
        config.data.root = str(tmp_path)
    data = instantiate(config.data, _convert_="all")
    assert isinstance(data, ImageData)
    assert data.title == path.stem
    assert (data.batch_size, data.seed, data.augmentation.padding) == (64, 3, 2)


def test_the_environment_says_where_the_data_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EFFICIENTCONV_DATA", "/somewhere")
    config = OmegaConf.create({**REST, "data": OmegaConf.load(FILES[0])})
    assert config.data.root == "/somewhere"
