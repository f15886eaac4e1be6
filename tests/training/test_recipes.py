"""Recipes with a loss and an augmentation of their own, trained for some steps on tiny images."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from efficientconv.errors import UserError
from efficientconv.runs.directory import RunDirectory
from efficientconv.training.classifier import Classifier
from efficientconv.training.settings import require_sensible
from efficientconv.training.train import train
from tests.conftest import write_idx
from tests.training.conftest import resolved

pytestmark = pytest.mark.filterwarnings("ignore")  # what silence_lightning keeps from users
SMALL = ["recipe.eval_crop.resize=40", "data.image_size=32", "data.loader=torch", "data.workers=0"]


@pytest.mark.parametrize(("recipe", "crop"), [("imagenet_a2", []), ("imagenet_a3", ["recipe.train_crop.size=16"])])
def test_resnet_strikes_back_trains_on_photographs(recipe, crop, folder_of_photographs, tmp_path):
    run = RunDirectory(tmp_path / "run")
    words = [f"recipe={recipe}", "data=image_folder", f"data.root={folder_of_photographs}", *SMALL, *crop]
    train(resolved(*words, "data.train_fraction=1", "recipe.batch_size=8"), run)
    summary = run.read_summary()
    assert summary["status"] == "done"
    assert summary["train_images"] == 2 * 26
    assert all(0 < float(row["train/loss"]) < 2 for row in run.read_metrics())
    state = torch.load(run.checkpoint("last"), weights_only=True)["optimizer_states"][0]["state"]
    assert {"exp_avg", "exp_avg_sq"} <= state[0].keys()


def test_a_loss_of_its_own_is_minimised():
    from timm.loss import BinaryCrossEntropy
    from torch import nn

    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    loss = BinaryCrossEntropy(smoothing=0.0, target_threshold=0.2)
    classifier = Classifier(model, 4, loss=loss, label_smoothing=0.0)
    images, shares = torch.randn(3, 3, 2, 2), torch.tensor([[0.7, 0.3, 0, 0], [0, 0, 1, 0], [0.9, 0, 0, 0.1]])
    found, reported, _ = classifier.loss(images, shares)
    expected = nn.functional.binary_cross_entropy_with_logits(model(images), (shares > 0.2).float())
    assert found == reported == expected


def test_smoothed_labels_are_cross_entropys_alone():
    config = resolved("recipe=imagenet_a2", "recipe.label_smoothing=0.1")
    with pytest.raises(UserError, match=r"recipe.label_smoothing=0.1: is cross-entropy's, and recipe.loss is another"):
        require_sensible(config)


# -- every recipe learns: small networks on small images, as many epochs as seconds allow -----------------------------

PHOTOGRAPHS = ["imagenet_step", "imagenet_cosine", "spconv_imagenet", "fine_grained", "bsconv_stanford_dogs", "cosine"]


@pytest.fixture(scope="module")
def red_and_blue(tmp_path_factory):
    """Two classes of 24 photographs to train on and 8 to test, that differ in colour."""
    root, rng = tmp_path_factory.mktemp("red_and_blue"), np.random.default_rng(0)
    for part, count in (("train", 24), ("val", 8)):
        for channel, name in ((0, "red"), (2, "blue")):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 128, (6, 8, 3), dtype=np.uint8)
                pixels[..., channel] += 96
                image = Image.fromarray(pixels).resize((80, 60), Image.Resampling.BICUBIC)
                image.save(root / part / name / f"{i}.jpg")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("recipe", PHOTOGRAPHS)
def test_a_recipe_for_photographs_learns(recipe, red_and_blue, tmp_path):
    run = RunDirectory(tmp_path / "run")
    words = ["data=image_folder", f"data.root={red_and_blue}", "data.image_size=64", "data.loader=torch"]
    small = ["data.workers=0", "data.train_fraction=1", "recipe.batch_size=8", "recipe.optimizer.lr=0.02"]
    train(resolved(*words, f"recipe={recipe}", *small, "trainer.max_epochs=8"), run)
    assert run.read_summary()["last"]["top1"] > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["mnist", "cosine_cifar"])
def test_a_recipe_for_small_images_learns(recipe, mnist_of_digits, tmp_path):
    run = RunDirectory(tmp_path / "run")
    words = ["data=mnist", f"data.root={mnist_of_digits}", "data.train_fraction=1", f"recipe={recipe}"]
    small = ["model.width=0.5", "conv=standard", "recipe.batch_size=64", "trainer.max_epochs=6"]
    train(resolved(*words, *small), run)
    assert run.read_summary()["last"]["top1"] > 0.8


@pytest.fixture(scope="module")
def mnist_of_digits(tmp_path_factory):
    """MNIST's four files, with scikit-learn's digits at 28×28 pixels in them."""
    root, digits = tmp_path_factory.mktemp("mnist"), load_digits()
    grey = torch.from_numpy(digits.images).unsqueeze(1).float() * (255 / 16)
    large = torch.nn.functional.interpolate(grey, size=28, mode="bilinear").round().squeeze(1).numpy()
    for part, place in (("train", slice(360, None)), ("t10k", slice(360))):
        write_idx(root / "MNIST" / "raw" / f"{part}-images-idx3-ubyte", large[place])
        write_idx(root / "MNIST" / "raw" / f"{part}-labels-idx1-ubyte", digits.target[place])
    return root
