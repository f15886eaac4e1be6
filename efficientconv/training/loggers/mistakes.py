"""What a finished network gets wrong on the test images: which classes it takes for which, and its surest mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from efficientconv.datasets import ImageData
from efficientconv.training.evaluate import evaluation_trainer
from efficientconv.training.loggers.wandb_run import WandbRun
from efficientconv.transforms.batch import Normalization

SHOWN = 32
"""Number of mistakes whose images are kept."""

MOST_CLASSES = 100
"""Number of classes whose confusion is a picture: W&B draws tables of up to 10,000 cells."""


@dataclass(frozen=True)
class Mistakes:
    """What a network makes of images with known classes.

    Attributes:
        confusion: images (num_classes, num_classes) int64 of the class of the row, taken for that of the column.
        images: (N, C, H, W) of the wrong ones, as the network sees them, the one it is surest of first.
        labels: (N,) their classes.
        predicted: (N,) what they are taken for.
        confidence: (N,) its probability, 0 to 1.
    """

    confusion: Tensor
    images: Tensor
    labels: Tensor
    predicted: Tensor
    confidence: Tensor

    @property
    def accuracies(self) -> list[float]:
        """Return the part of each class's images that is recognised; not a number where there are none."""
        return (self.confusion.diagonal() / self.confusion.sum(1)).tolist()


class _Collector(LightningModule):
    """Goes through the test images once, and keeps no more of them than is shown."""

    def __init__(self, model: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.model, self.num_classes = model, num_classes
        self.confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.wrong: tuple[Tensor, ...] | None = None  # images, labels, predicted, confidence

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        confidence, predicted = self.model(images).float().softmax(1).max(1)
        cells = torch.bincount(labels * self.num_classes + predicted, minlength=self.num_classes**2)
        self.confusion += cells.cpu().view(self.num_classes, self.num_classes)
        wrong = predicted != labels
        found = tuple(values[wrong] for values in (images, labels, predicted, confidence))
        kept = found if self.wrong is None else tuple(map(torch.cat, zip(self.wrong, found, strict=True)))
        surest = kept[-1].topk(min(SHOWN, len(kept[-1]))).indices
        self.wrong = tuple(values[surest] for values in kept)


def find_mistakes(model: nn.Module, data: ImageData, trainer: Mapping[str, Any]) -> Mistakes:
    """Classify the test images on one device.

    Args:
        model: maps images (N, C, H, W) to logits.
        data: whose test images.
        trainer: device settings of the configuration.
    """
    collector = _Collector(model, data.num_classes)
    evaluation_trainer(trainer).test(collector, datamodule=data, verbose=False)
    assert collector.wrong is not None
    return Mistakes(collector.confusion, *(values.cpu() for values in collector.wrong))


def log_mistakes(logger: WandbRun, mistakes: Mistakes, data: ImageData, step: int) -> None:
    """Show them in W&B: the confusion matrix, the accuracy of each class, the surest mistakes as pictures.

    Args:
        logger: of the run.
        mistakes: of the run's network.
        data: whose class names and normalization.
        step: optimizer steps done.
    """
    import wandb

    names = data.class_names
    accuracies = wandb.Table(["class", "accuracy"], [*zip(names, mistakes.accuracies, strict=True)])
    pictures = [
        wandb.Image(pixels.permute(1, 2, 0).numpy(), caption=caption)
        for pixels, caption in zip(
            _pixels(mistakes.images, data.normalization), _captions(mistakes, names), strict=True
        )
    ]
    metrics = {
        "test/confusion": _confusion(mistakes.confusion, names),
        "test/accuracy_by_class": wandb.plot.bar(accuracies, "class", "accuracy", title="accuracy of each class"),
        "test/surest_mistakes": pictures,
    }
    logger.log_metrics({name: value for name, value in metrics.items() if value}, step)


def _confusion(confusion: Tensor, names: Sequence[str]) -> Any:
    """Return W&B's confusion matrix; of very many classes a table of those confused, the most frequent pair first."""
    import wandb

    if len(names) <= MOST_CLASSES:
        labels, predicted = confusion.nonzero().T.repeat_interleave(confusion[confusion > 0], dim=1).tolist()
        return wandb.plot.confusion_matrix(y_true=labels, preds=predicted, class_names=list(names))
    pairs = confusion.clone().fill_diagonal_(0).flatten()
    found = pairs.argsort(descending=True)[: int((pairs > 0).sum())][: MOST_CLASSES**2].tolist()
    rows = [(names[pair // len(names)], names[pair % len(names)], int(pairs[pair])) for pair in found]
    return wandb.Table(["actual", "predicted", "images"], rows)


def _pixels(images: Tensor, normalization: Normalization | None) -> Tensor:
    """Return images (N, C, H, W) as they were before normalization, uint8."""
    if normalization is not None:
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (normalization.mean, normalization.std))
        images = images.float() * std + mean
    return (images.float() * 255).round().clamp(0, 255).to(torch.uint8)


def _captions(mistakes: Mistakes, names: Sequence[str]) -> list[str]:
    found = zip(mistakes.labels.tolist(), mistakes.predicted.tolist(), mistakes.confidence.tolist(), strict=True)
    return [f"{names[label]}, taken for {names[other]} ({probability:.1%})" for label, other, probability in found]
