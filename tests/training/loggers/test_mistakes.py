"""What is shown of a network that is right about some images and wrong about others, worked out by hand."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from efficientconv.datasets.digits import Digits
from efficientconv.training.loggers import mistakes as module
from efficientconv.training.loggers.mistakes import Mistakes, find_mistakes, log_mistakes
from efficientconv.transforms.batch import Normalization

pytestmark = pytest.mark.filterwarnings("ignore")  # what silence_lightning keeps from users

CPU = {"accelerator": "cpu", "devices": 1, "precision": "32-true"}


class Brightness(nn.Module):
    """Takes bright digits for a 3, and the brighter the surer; the others for a 0."""

    def forward(self, images):
        brightness = images.mean((1, 2, 3))
        logits = torch.zeros(len(images), 10)
        logits[:, 0], logits[:, 3] = 1.0, 1.0 + 4 * brightness
        return logits


def test_the_surest_mistakes_are_kept_and_every_image_is_counted(monkeypatch):
    monkeypatch.setattr(module, "SHOWN", 5)
    data = Digits(eval_batch_size=100)
    data.setup()
    found = find_mistakes(Brightness(), data, CPU)
    images, labels = map(torch.cat, zip(*data.test_dataloader(), strict=True))
    confidence, predicted = Brightness()(images).softmax(1).max(1)
    wrong = (predicted != labels).nonzero().flatten()
    expected = wrong[confidence[wrong].argsort(descending=True)][:5]
    assert found.confusion.sum() == len(labels)
    assert found.confusion[7, 3] == ((labels == 7) & (predicted == 3)).sum() > 0
    assert torch.equal(found.confidence, confidence[expected])
    assert torch.equal(found.images, images[expected])
    assert found.accuracies[3] == pytest.approx((predicted[labels == 3] == 3).float().mean().item())


class Logger:
    """Keeps what it is given."""

    def log_metrics(self, metrics, step):
        self.metrics, self.step = metrics, step


def shown(confusion, images, names):
    labels = predicted = torch.zeros(len(images), dtype=torch.int64)
    found = Mistakes(confusion, images, labels, predicted + 1, torch.full((len(images),), 0.987))
    data = SimpleNamespace(class_names=names, normalization=Normalization((0.5,), (0.25,)))
    logger = Logger()
    log_mistakes(logger, found, data, step=6)
    assert logger.step == 6
    return logger.metrics


def test_wandb_is_given_the_matrix_the_accuracies_and_pictures_as_they_were_before_normalization():
    metrics = shown(torch.tensor([[3, 1], [0, 2]]), torch.full((1, 1, 4, 4), -1.0), ["ant", "bee"])
    assert [row for row in metrics["test/confusion"].table.data if row[2]] == [
        ["ant", "ant", 3],
        ["ant", "bee", 1],
        ["bee", "bee", 2],
    ]
    assert metrics["test/accuracy_by_class"].table.data == [["ant", 0.75], ["bee", 1.0]]
    (picture,) = metrics["test/surest_mistakes"]
    assert picture.image.getextrema() == (64, 64)  # 0.5 - 0.25 of 255
    assert picture._caption == "ant, taken for bee (98.7%)"


def test_of_very_many_classes_the_pairs_that_are_confused_are_a_table():
    confusion = torch.zeros(101, 101, dtype=torch.int64)
    confusion[4, 4], confusion[5, 6], confusion[100, 0] = 9, 2, 7
    table = shown(confusion, torch.empty(0, 1, 4, 4), [f"c{i}" for i in range(101)])["test/confusion"]
    assert table.data == [["c100", "c0", 7], ["c5", "c6", 2]]


def test_a_network_without_a_mistake_has_no_pictures():
    metrics = shown(torch.eye(2, dtype=torch.int64), torch.empty(0, 1, 4, 4), ["ant", "bee"])
    assert set(metrics) == {"test/confusion", "test/accuracy_by_class"}
