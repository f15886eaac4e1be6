"""The bench's configuration, and a folder of a few photographs."""

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from efficientconv.config_path import CONFIGS

CLASSES, IMAGES = 2, 3


def configuration(*overrides):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        composed = compose("bench", overrides=["trainer.accelerator=cpu", *overrides])
    return OmegaConf.to_container(composed, resolve=True)


@pytest.fixture
def photographs(tmp_path):
    """Write 2 classes of 3 images each, of several sizes, twice."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for i in range(CLASSES):
            folder = tmp_path / "photographs" / split / f"class{i}"
            folder.mkdir(parents=True)
            for j in range(IMAGES):
                pixels = rng.integers(0, 256, (70 + 10 * j, 90, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{j}.jpg")
    return tmp_path / "photographs"
