import copy

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from torch import nn
from torch.nn import functional as F

from efficientconv.layers import OrthonormalConv2d
from efficientconv.layers.base import regularization_loss
from efficientconv.training.classifier import Classifier, batch_mixer
from efficientconv.training.optim import ScheduledRate, warmup_cosine

CLASSES = 7


def network():
    layers = [OrthonormalConv2d(3, 2, 1), nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES))


def batches(count, size=6):
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(size, 3, 8, 8, generator=generator), torch.randint(CLASSES, (size,), generator=generator))
        for _ in range(count)
    ]


class Loader:
    """A list of batches that Lightning does not take for a list of loaders."""

    def __init__(self, data):
        self.data = data

    def __iter__(self):
        return iter(self.data)

    def __len__(self):
        return len(self.data)


def trainer(**settings):
    off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    return Trainer(accelerator="cpu", num_sanity_val_steps=0, **dict.fromkeys(off, False), **settings)


def plain_loop(model, data, epochs):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    schedule = ScheduledRate(optimizer, cosine, epochs * len(data))
    for _ in range(epochs):
        for images, labels in data:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels, label_smoothing=0.1) + 0.3 * regularization_loss(model)
            loss.backward()
            optimizer.step()
            schedule.step()


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-3)


def cosine(step, total_steps):
    return warmup_cosine(step, total_steps, warmup=0.25)


@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
@pytest.mark.parametrize("channels_last", [False, True])
def test_trains_as_a_plain_loop_does(channels_last):
    seed_everything(0, verbose=False)
    model = network()
    by_hand = copy.deepcopy(model)
    settings = {"optimizer": sgd, "schedule": cosine, "regularization_weight": 0.3, "label_smoothing": 0.1}
    classifier = Classifier(model, CLASSES, channels_last=channels_last, **settings)
    runner = trainer(max_epochs=3)
    runner.fit(classifier, train_dataloaders=Loader(batches(5)))
    plain_loop(by_hand, batches(5), epochs=3)
    for name, value in by_hand.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    sums = classifier.read_sums()
    assert (sums.steps, sums.images, sums.finite_steps) == (5, 30, 5)
    assert sums.penalty > 0


def test_evaluation_counts_every_image_and_adds_no_penalty():
    seed_everything(0, verbose=False)
    model = network()
    data = [*batches(2), (torch.randn(1, 3, 8, 8), torch.tensor([3]))]
    classifier = Classifier(model, CLASSES, regularization_weight=5.0, label_smoothing=0.5)
    (found,) = trainer().validate(classifier, Loader(data), verbose=False)
    model.eval()
    with torch.no_grad():
        logits, labels = torch.cat([model(images) for images, _ in data]), torch.cat([labels for _, labels in data])
    top5 = (logits.topk(5).indices == labels[:, None]).any(1).double().mean()
    assert found["val/loss"] == pytest.approx(float(F.cross_entropy(logits, labels)), abs=1e-6)
    assert found["val/top1"] == pytest.approx(float((logits.argmax(1) == labels).double().mean()))
    assert found["val/top5"] == pytest.approx(float(top5))


def test_top5_of_two_classes_is_top2():
    classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), 2)
    data = Loader([(torch.randn(4, 3, 1, 1), torch.tensor([0, 1, 1, 0]))])
    (found,) = trainer().validate(classifier, data, verbose=False)
    assert found["val/top5"] == 1.0


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.2, 0.0), (0.0, 1.0), (0.2, 1.0)])
def test_mixing_gives_soft_targets_that_sum_to_one(mixup, cutmix):
    torch.manual_seed(0)
    images, labels = batches(1)[0]
    mixed, targets = batch_mixer(CLASSES, mixup, cutmix)(images, labels)
    assert mixed.shape == images.shape
    assert not torch.equal(mixed, images)
    assert targets.shape == (len(labels), CLASSES)
    torch.testing.assert_close(targets.sum(1), torch.ones(len(labels)))


def test_without_mixing_a_batch_stays_as_it_is():
    images, labels = batches(1)[0]
    mixed, targets = batch_mixer(CLASSES, 0, 0)(images, labels)
    assert mixed is images
    assert targets is labels


def test_refuses_a_negative_alpha():
    with pytest.raises(ValueError, match="cutmix=-1: alpha of a Beta distribution is above 0"):
        batch_mixer(CLASSES, 0, -1)


def test_compiling_in_place_keeps_the_keys():
    plain, compiled = Classifier(network(), CLASSES), Classifier(network(), CLASSES, compile=True)
    assert plain.state_dict().keys() == compiled.state_dict().keys()


def test_without_a_weight_no_penalty_is_computed():
    assert Classifier(network(), CLASSES).penalized == ()
    assert len(Classifier(network(), CLASSES, regularization_weight=0.1).penalized) == 1
