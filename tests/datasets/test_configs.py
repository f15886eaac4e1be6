"""Every file of configs/data makes a data set, and every recipe for photographs makes its crops."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from efficientconv.config_path import CONFIGS
from efficientconv.datasets import ImageData, InMemoryData, StreamedData
from efficientconv.transforms import CenterCrop, RandomAreaCrop, RandomCrop

FILES = sorted((CONFIGS / "data").glob("*.yaml"))
OWN_RECIPES = {
    "cifar10": "bsconv_cifar",
    "cifar100": "bsconv_cifar",
    "digits": "digits",
    "image_folder": "cosine",
    "imagenet": "imagenet_step",
    "mnist": "mnist",
    "random": "bsconv_cifar",
}  # all others are fine-grained sets
ROOTS = ("bench", "eval")  # they choose in the same way as train
ADDED = ["recipe.augment={policy: randaugment, magnitude: 5}", "recipe.random_erasing=0.25", "recipe.repeats=3"]


@cache
def composed(root: str, *words: str) -> DictConfig:
    """Compose a root configuration, with Hydra's own; to be looked at and not changed."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(root, overrides=list(words), return_hydra_config=True)


def make(*words: str) -> Any:
    return instantiate(composed("train", *words).data, _convert_="all")


def recipe_of(config: DictConfig) -> str:
    return config.hydra.runtime.choices["recipe"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_config_is_short_and_makes_a_data_set_that_takes_what_a_recipe_adds(path: Path, tmp_path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# ")
    assert len(text.splitlines()) < 25
    words = ["recipe.batch_size=64", "recipe.crop_padding=2", "seed=3", *ADDED]
    data = make(f"data={path.stem}", *words, *([f"data.root={tmp_path}"] if "root: ???" in text else []))
    assert isinstance(data, ImageData)
    assert data.title == path.stem
    assert (data.batch_size, data.seed, data.bad_files.limit) == (64, 3, 0)
    assert isinstance(data, StreamedData) or data.augmentation.padding == 2
    added = data.added
    assert (added.policy.magnitude, added.erasing.probability, added.repeats) == (5, 0.25, 3)


def test_the_environment_says_where_the_data_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EFFICIENTCONV_DATA", "/somewhere")
    assert composed("train").data.root == "/somewhere"


def streamed(recipe: str) -> StreamedData:
    return make("data=imagenet", "data.root=nowhere", f"recipe={recipe}")


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
    data = make("data=digits", "recipe=imagenet_step")
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
    steps = 7  # in an epoch
    schedule = instantiate(config.schedule, _convert_="all")
    factors = [schedule(step, steps * config.max_epochs) for step in range(steps * epochs)]
    falls = [step / steps for step in range(1, steps * epochs) if factors[step] != factors[step - 1]]
    assert (config.max_epochs, falls) == (epochs, drops)


def test_the_cosine_recipe_warms_up_for_five_epochs() -> None:
    config = OmegaConf.load(CONFIGS / "recipe" / "imagenet_cosine.yaml")
    assert (config.max_epochs, config.max_epochs * config.schedule.warmup) == (120, pytest.approx(5))
    assert config.label_smoothing == 0.1


@pytest.mark.parametrize(
    ("data", "root"),
    [*((path.stem, "train") for path in FILES), *((data, root) for data in ("digits", "cub200") for root in ROOTS)],
)
def test_a_data_set_chooses_its_recipe(data: str, root: str) -> None:
    assert recipe_of(composed(root, f"data={data}")) == OWN_RECIPES.get(data, "fine_grained")


def test_what_chooses_the_recipe() -> None:
    assert recipe_of(composed("train")) == "bsconv_cifar"  # of CIFAR-10
    assert recipe_of(composed("train", "data=digits", "recipe=imagenet_step")) == "imagenet_step"
    assert recipe_of(composed("train", "experiment=spconv_imagenet_resnet50")) == "spconv_imagenet"
    assert recipe_of(composed("train", "experiment=spconv_imagenet_resnet50", "recipe=cosine")) == "cosine"


@pytest.mark.parametrize("data", ["imagenet", "image_folder", "stanford_dogs", "digits"])
def test_own_recipes_normalise(data: str) -> None:
    assert composed("train", f"data={data}").recipe.normalize is True


@pytest.mark.parametrize("recipe", sorted(path.stem for path in (CONFIGS / "recipe").glob("*.yaml")))
def test_a_recipe_has_every_key_of_the_base_and_no_other(recipe: str) -> None:
    base = OmegaConf.load(CONFIGS / "recipe" / "base.yaml")
    assert composed("train", f"recipe={recipe}").recipe.keys() == base.keys()


def test_a_user_s_data_set_and_recipe_need_say_no_more_than_what_is_theirs(tmp_path: Path) -> None:
    for group, text in (
        ("recipe", "max_epochs: 3\noptimizer: {_target_: torch.optim.AdamW, lr: 0.01}\n"),
        ("data", "_target_: efficientconv.datasets.RandomImages\nimages: 20\n"),
    ):
        (tmp_path / group).mkdir()
        (tmp_path / group / "mine.yaml").write_text(text)
    search = f"hydra.searchpath=[file://{tmp_path}]"
    mine = composed("train", search, "data=mine", "recipe=mine")
    assert (mine.trainer.max_epochs, mine.recipe.label_smoothing, mine.recipe.batch_size) == (3, 0, 128)
    optimizer = instantiate(mine.recipe.optimizer)([torch.zeros(1, requires_grad=True)])
    assert (type(optimizer), optimizer.defaults["lr"]) == (torch.optim.AdamW, 0.01)
    assert recipe_of(composed("train", search, "data=mine")) == "cosine"


@pytest.mark.parametrize("word", ["data.batch_size=256", "recipe.batch_size=256", "+data.batch_size=256"])
def test_a_batch_size_of_the_command_line_is_kept(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = composed("train", "data=random", word.lstrip("+"))
    assert config.data.keep_batch_size is False  # no job of Hydra's
    job = OmegaConf.create({"hydra": {"overrides": {"task": ["data=random", word]}}})
    monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(HydraConfig, "get", lambda: job.hydra)
    assert config.data.keep_batch_size is True
    job.hydra.overrides.task = ["data=random", "data.eval_batch_size=256"]
    assert config.data.keep_batch_size is False


@pytest.mark.parametrize("recipe", ["imagenet_a2", "imagenet_a3"])
def test_resnet_strikes_back_shows_more_of_the_image_and_a3_trains_on_fewer_pixels(recipe: str) -> None:
    data = make("data=imagenet", "data.root=/none", f"recipe={recipe}")
    assert (data.eval_crop.size, data.eval_crop.resize) == (224, 236)
    assert (data.train_crop.size, data.added.repeats) == {"imagenet_a2": (224, 3), "imagenet_a3": (160, 1)}[recipe]
    assert (data.added.policy.magnitude, data.added.policy.spread) == (
        {"imagenet_a2": 21, "imagenet_a3": 18}[recipe],
        1.5,
    )
