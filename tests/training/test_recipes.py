"""Recipes with a loss and an augmentation of their own, trained for some steps on tiny images."""

import pytest
import torch

from efficientconv.errors import UserError
from efficientconv.runs.directory import RunDirectory
from efficientconv.training.classifier import Classifier
from efficientconv.training.settings import require_sensible
from efficientconv.training.train import train
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
