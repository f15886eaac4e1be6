"""Every file of configs/data makes a data set, and every recipe for photographs makes its crops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from efficientconv.datasets import ImageData, InMemoryData, StreamedData
from efficientconv.transforms import CenterCrop, RandomAreaCrop, RandomCrop

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = sorted((CONFIGS / "data").glob("*.yaml"))
RECIPE = {"batch_size": 64, "normalize": False, "crop_padding": 2, "flip": True}


def compose(data: Path, recipe: Any) -> DictConfig:
    """A root configuration, as far as a data set looks into it."""
    return OmegaConf.create({"recipe": recipe, "seed": 3, "data": OmegaConf.load(data)})


def make(config: DictConfig) -> Any:
    return instantiate(config.data, _convert_="all")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_config_is_short_commented_and_makes_a_data_set(path: Path, tmp_path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# ")
    assert len(text.splitlines()) < 25
    config = compose(path, RECIPE)
    if OmegaConf.is_missing(config.data, "root"):
        config.data.root = str(tmp_path)
    data = make(config)
    assert isinstance(data, ImageData)
    assert data.title == path.stem
    assert (data.batch_size, data.seed, data.damaged.limit) == (64, 3, 0)
    assert isinstance(data, StreamedData) or data.augmentation.padding == 2


def test_the_environment_says_where_the_data_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EFFICIENTCONV_DATA", "/somewhere")
    assert compose(CONFIGS / "data" / "cifar10.yaml", RECIPE).data.root == "/somewhere"


def streamed(recipe: str) -> StreamedData:
    config = compose(CONFIGS / "data" / "imagenet.yaml", OmegaConf.load(CONFIGS / "recipe" / f"{recipe}.yaml"))
    config.data.root = "nowhere"
    return make(config)


@pytest.mark.parametrize(
    ("recipe", "area", "ratio"),
    [
        ("imagenet_step", [0.08, 1], [3 / 4, 4 / 3]),
        ("imagenet_cosine", [0.08, 1], [3 / 4, 4 / 3]),
        ("spconv_imagenet", [0.1, 1], [0.8, 1.25]),
    ],
)
def test_recipes_with_a_random_area(recipe: str, area: list[float], ratio: list[float]) -> None:
    data = streamed(recipe)
    assert isinstance(data.train_crop, RandomAreaCrop)
    assert (data.train_crop.area, data.train_crop.ratio) == (area, pytest.approx(ratio))
    assert isinstance(data.eval_crop, CenterCrop)
    assert (data.eval_crop.resize, data.eval_crop.keep_aspect, data.eval_crop.size) == (256, True, 224)
    assert data.normalization is not None


def test_the_recipe_of_bsconv_for_dogs() -> None:
    data = streamed("bsconv_stanford_dogs")
    assert isinstance(data.train_crop, RandomCrop)
    for crop in (data.train_crop, data.eval_crop):
        assert (crop.resize, crop.keep_aspect, crop.size) == (256, False, 224)
    assert data.train_transforms[1].strengths == {"brightness": 0.4, "contrast": 0, "saturation": 0}
    assert data.normalization is None


def test_a_recipe_for_small_images_gives_the_usual_crops_and_one_for_photographs_the_usual_padding() -> None:
    assert isinstance(streamed("bsconv_cifar").train_crop, RandomAreaCrop)
    recipe = OmegaConf.load(CONFIGS / "recipe" / "imagenet_step.yaml")
    data = make(compose(CONFIGS / "data" / "digits.yaml", recipe))
    assert isinstance(data, InMemoryData)
    assert data.augmentation.padding == 4


@pytest.mark.parametrize(
    ("recipe", "epochs", "drops"),
    [
        ("imagenet_step", 90, [30, 60]),
        ("spconv_imagenet", 90, [30, 60, 80]),
        ("bsconv_stanford_dogs", 200, [100, 150, 180]),
    ],
)
def test_rates_fall_after_the_published_epochs(recipe: str, epochs: int, drops: list[int]) -> None:
    config = OmegaConf.load(CONFIGS / "recipe" / f"{recipe}.yaml")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    steps = 7  # in an epoch
    schedule = instantiate(config.schedule, _convert_="all")(optimizer, total_steps=steps * config.max_epochs)
    factors = [schedule.lr_lambdas[0](step) for step in range(steps * epochs)]
    falls = [step / steps for step in range(1, steps * epochs) if factors[step] != factors[step - 1]]
    assert (config.max_epochs, falls) == (epochs, drops)


def test_the_cosine_recipe_warms_up_for_five_epochs() -> None:
    config = OmegaConf.load(CONFIGS / "recipe" / "imagenet_cosine.yaml")
    assert (config.max_epochs, config.max_epochs * config.schedule.warmup) == (120, pytest.approx(5))
    assert config.label_smoothing == 0.1
