"""The bench's configuration, a tiny network with two convolutions, and a folder of a few photographs."""

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from efficientconv.bench.words import hydra_words
from efficientconv.cli.single import composed, plain_values
from efficientconv.config_path import CONFIGS

CLASSES, IMAGES = 2, 3
TINY_NETWORK = ["model=cifar_resnet", "model.depth=8", "model.width=0.5", "input_size=[3,8,8]", "batch=2"]
QUICK = ["rounds=3", "seconds=0", "trainer.accelerator=cpu"]


def configuration(*overrides):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("bench", overrides=["trainer.accelerator=cpu", *overrides])
    return OmegaConf.to_container(config, resolve=True)


def told(*words):
    """Return the configuration of a command line, small and quick where it does not say otherwise."""
    with composed("bench", hydra_words([*words[:1], *QUICK, *TINY_NETWORK, *words[1:]])) as config:
        return plain_values(config)


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
