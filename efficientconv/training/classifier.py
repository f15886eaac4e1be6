"""The one LightningModule: image classification with any network, its penalties and its bookkeeping.

``Trainer`` with ``self.log`` in the training step doubles the cost of a short step, so the training step only leaves a
few numbers on the device; whoever wants their sums (`efficientconv.training.progress`) reads them seldom, all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from efficientconv.layers.base import ConvVariant, penalized_layers
from efficientconv.layers.cpu_forms import keep_to_memory
from efficientconv.training.compiled import CompiledNetwork
from efficientconv.training.cuda_graphs import GraphedLoss, Loss
from efficientconv.training.optim import Schedule, ScheduledRate, constant, fuse_on_cpu, parameter_groups, scale_rates
from efficientconv.training.progress import StepSums, TrainSums
from efficientconv.training.stopping import of_all_ranks
from efficientconv.training.warm_start.distillation import Distillation


class Classifier(LightningModule):
    """A network with its loss, optimizer and metrics.

    Args:
        model: maps images (N, 3, H, W) to logits (N, num_classes).
        num_classes: number of classes.
        optimizer: called with parameter groups.
        schedule: the rate's factor, called with the optimizer steps that are done and all of them.
        loss: of logits (N, num_classes) and targets, which are classes (N,), or where images are mixed shares of each
            class (N, num_classes); ``None`` is cross-entropy.
        regularization_weight: factor of the layers' own penalties, such as BSConv-S's orthonormality.
        label_smoothing: of cross-entropy in training: share of the target spread over all classes, 0 to 1.
        mixup: alpha of mixup's Beta distribution; 0 is off.
        cutmix: alpha of CutMix's Beta distribution; 0 is off. With both, each batch draws one of them.
        decay_norm_and_bias: whether weight decay reaches batch norms and biases.
        layer_decay: the factor of the rate from one block to the one in front of it.
        distillation: a teacher whose logits are learned from as well; None for the labels alone.
        channels_last: memory format of weights and images.
        compile: compile the network in place, for batches of full size, see `CompiledNetwork`.
        cuda_graphs: replay each training step's passes from CUDA graphs.
    """

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        *,
        optimizer: Callable[..., Optimizer] = SGD,
        schedule: Schedule = constant,
        loss: Callable[[Tensor, Tensor], Tensor] | None = None,
        regularization_weight: float = 0.0,
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        decay_norm_and_bias: bool = True,
        layer_decay: float = 1.0,
        distillation: Distillation | None = None,
        channels_last: bool = False,
        compile: bool = False,
        cuda_graphs: bool = False,
    ) -> None:
        super().__init__()
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.model = model.to(memory_format=self.memory_format)
        keep_to_memory(self.model)
        self.penalized = tuple(penalized_layers(model)) if regularization_weight else ()
        self.optimizer, self.schedule = optimizer, schedule
        self.regularization_weight = regularization_weight
        self.label_smoothing = label_smoothing
        self.decay_norm_and_bias, self.layer_decay = decay_norm_and_bias, layer_decay
        self.distillation = distillation
        self.mix = batch_mixer(num_classes, mixup, cutmix)
        self.sums = StepSums()
        accuracies = {
            name: MulticlassAccuracy(num_classes, top_k=k, average="micro", validate_args=False)
            for name, k in (("top1", 1), ("top5", min(5, num_classes)))
        }
        self.metrics = MetricCollection({"loss": MeanMetric(), **accuracies}, compute_groups=False)
        run: Callable[[Tensor], Tensor] = CompiledNetwork(self.model) if compile else self.model.__call__
        self.run = run  # no module, whose parameters would be this module's a second time
        base = loss or partial(F.cross_entropy, label_smoothing=label_smoothing)
        training_loss = TrainingLoss(run, base, self.penalized, regularization_weight, distillation)
        self.loss: Loss = GraphedLoss(training_loss, self.model) if cuda_graphs else training_loss

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, 3, H, W) to logits (N, num_classes)."""
        return self.run(images.contiguous(memory_format=self.memory_format))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss to minimise: that of the logits plus the layers' weighted penalties."""
        images, targets = self.mix(*batch)
        loss, *figures = self.loss(images.contiguous(memory_format=self.memory_format), targets)
        self.sums.add(len(images), *figures)
        return loss

    def on_fit_start(self) -> None:
        """Bring the teacher to where the network is."""
        if self.distillation is not None:
            self.distillation.to(self.device, self.memory_format)

    def on_train_epoch_start(self) -> None:
        """Begin new sums (Lightning does not call this where an epoch goes on after a restart)."""
        self.sums.start()

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Keep the sums, so that an epoch that is interrupted reports the whole of itself."""
        checkpoint["train_sums"] = [list(sums) for sums in of_all_ranks(self.sums.read())]

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Take the sums up again."""
        ranks = checkpoint["train_sums"]
        if self.global_rank < len(ranks):  # else there are more ranks than before, which only a new epoch can have
            self.sums.start(TrainSums(*ranks[self.global_rank]))

    def read_sums(self) -> TrainSums:
        """Read the sums of the epoch over all ranks, which must call this together."""
        return TrainSums.over(of_all_ranks(self.sums.read()))

    def _evaluate_batch(self, batch: tuple[Tensor, Tensor]) -> None:
        images, labels = batch
        logits = self(images).float()
        self.metrics["loss"].update(F.cross_entropy(logits, labels, reduction="none"))
        for name in ("top1", "top5"):
            self.metrics[name].update(logits, labels)

    def _log_evaluation(self, stage: str) -> None:
        found = {f"{stage}/{name}": value for name, value in self.metrics.compute().items()}
        is_fitting = self.trainer.state.fn == TrainerFn.FITTING  # then the recorder's row brings it to the loggers
        self.log_dict(found, logger=False if is_fitting else None)  # None: as Lightning would have it
        self.metrics.reset()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Add one batch to the metrics: cross-entropy without smoothing or penalties, and accuracy, over all images."""
        self._evaluate_batch(batch)

    def on_validation_epoch_end(self) -> None:
        """Log ``val/loss``, ``val/top1`` and ``val/top5`` (of at most as many classes as there are)."""
        self._log_evaluation("val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """As in validation."""
        self._evaluate_batch(batch)

    def on_test_epoch_end(self) -> None:
        """Log ``test/loss``, ``test/top1`` and ``test/top5``."""
        self._log_evaluation("test")

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Build the optimizer and its schedule, which steps with every optimizer step."""
        optimizer = self.optimizer(parameter_groups(self.model, self.decay_norm_and_bias, self.layer_decay))
        scale_rates(optimizer)
        fuse_on_cpu(optimizer)
        total_steps = max(1, int(self.trainer.estimated_stepping_batches))
        schedule = ScheduledRate(optimizer, self.schedule, total_steps, self.trainer.max_epochs or 1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class TrainingLoss:
    """What a training step minimises: a loss by the labels, mixed with a teacher's, plus the layers' penalties.

    Args:
        model: maps images (N, C, H, W) to logits (N, num_classes).
        loss: of logits and targets.
        penalized: the layers with a penalty of their own.
        weight: of those penalties.
        distillation: a teacher; None for the labels alone.
    """

    def __init__(
        self,
        model: Callable[[Tensor], Tensor],
        loss: Callable[[Tensor, Tensor], Tensor],
        penalized: Sequence[ConvVariant],
        weight: float,
        distillation: Distillation | None = None,
    ) -> None:
        self.model, self.loss = model, loss
        self.distillation = distillation
        self.penalized, self.weight = tuple(penalized), weight

    def __call__(self, images: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """Return scalars: all that is minimised, and without gradients the loss, how many were right, and any penalty.

        Args:
            images: (N, C, H, W).
            targets: classes (N,) int64, or shares of each class (N, num_classes).
        """
        logits = self.model(images)
        by_labels = self.loss(logits, targets)
        labels = targets if targets.ndim == 1 else targets.argmax(1)
        correct = (logits.detach().argmax(1) == labels).sum()
        loss = by_labels if self.distillation is None else self.distillation(by_labels, images, logits)
        if not self.penalized:
            return loss, by_labels.detach(), correct
        penalty = self._penalty(images.device.type)
        return loss + penalty, by_labels.detach(), correct, penalty.detach()

    def _penalty(self, device_type: str) -> Tensor:
        with torch.autocast(device_type, enabled=False):  # W·Wᵀ − I is small beside what bfloat16 rounds off
            return self.weight * torch.stack([layer.regularization_loss() for layer in self.penalized]).sum()


def batch_mixer(num_classes: int, mixup: float, cutmix: float) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return mixup, CutMix, a fair draw between the two, or nothing, as a function of images and labels.

    The function maps images (N, C, H, W) and labels (N,) to images and, where it mixes, targets (N, num_classes).

    Raises:
        ValueError: a negative alpha.
    """
    for name, alpha in (("mixup", mixup), ("cutmix", cutmix)):
        if alpha < 0:
            raise ValueError(f"{name}={alpha}: alpha of a Beta distribution is above 0, or 0 for off")
    if not mixup and not cutmix:
        return lambda images, labels: (images, labels)
    from torchvision.transforms import v2  # three seconds that only mixing costs

    mixers: list[nn.Module] = []
    if mixup:
        mixers.append(v2.MixUp(alpha=mixup, num_classes=num_classes))
    if cutmix:
        mixers.append(v2.CutMix(alpha=cutmix, num_classes=num_classes))
    return mixers[0] if len(mixers) == 1 else v2.RandomChoice(mixers)
