"""What W&B shows of a run: a name and tags that a person has typed, no more than it takes."""

from efficientconv.training.loggers.wandb_words import LONGEST_NAME, LONGEST_TAG, run_name, run_tags

CONFIG = {
    "choices": {"model": "resnet56", "conv": "bsconv_u", "data": "cifar100", "recipe": "bsconv_cifar"},
    "model": {"_target_": "efficientconv.backbones.cifar_resnet", "depth": 56},
    "data": {"_target_": "efficientconv.datasets.open_cifar"},
}
WORDS = [
    "seed=1",
    "model=resnet56",
    "recipe.optimizer.lr=0.3",
    "logger=wandb",
    "trainer.devices=2",
    "+conv.layer.p=0.5",
]


def test_a_name_tells_the_network_and_what_was_changed_of_it():
    assert run_name(CONFIG, []) == "resnet56 bsconv_u cifar100"
    assert run_name(CONFIG, WORDS) == "resnet56 bsconv_u cifar100 conv.layer.p=0.5 recipe.optimizer.lr=0.3 seed=1"


def test_tags_are_the_options_and_the_settings():
    expected = ["resnet56", "bsconv_u", "cifar100", "bsconv_cifar"]
    assert run_tags(CONFIG, WORDS) == [*expected, "conv.layer.p=0.5", "recipe.optimizer.lr=0.3", "seed=1"]


def test_of_timm_it_is_the_networks_name_that_tells():
    config = CONFIG | {"model": {"name": "efficientnet_b0"}, "choices": CONFIG["choices"] | {"model": "timm"}}
    assert run_name(config, ["model=timm", "model.name=efficientnet_b0"]) == "timm.efficientnet_b0 bsconv_u cifar100"


def test_neither_is_longer_than_wandb_takes():
    words = [f"conv.where.exclude=[{'layer,' * 50}]"]
    assert len(run_name(CONFIG, words)) == LONGEST_NAME
    assert len(run_tags(CONFIG, words)[-1]) == LONGEST_TAG
