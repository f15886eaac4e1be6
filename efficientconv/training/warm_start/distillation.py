"""Learning from another network's logits as well as from the labels.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531, section 2: both
networks' probabilities are softened by a temperature T, and the gradients, which 1/T² has made small, grow by T² again.

The teacher sees what the student sees, augmentation and mixup included (Beyer et al., "Knowledge distillation: A good
teacher is patient and consistent", CVPR 2022, arXiv:2106.05237).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Distillation:
    """A teacher, and what it adds to a student's loss.

    It is no module, so that the teacher's weights are in no checkpoint and its norms never train.

    Args:
        teacher: maps images (N, C, H, W) to logits (N, num_classes).
        weight: w, from 0 to 1: the loss is (1 − w)·loss + w·T²·KL(teacher ‖ student).
        temperature: T, above 0.
    """

    def __init__(self, teacher: nn.Module, weight: float, temperature: float) -> None:
        self.teacher = teacher.eval().requires_grad_(False)
        self.weight, self.temperature = weight, temperature

    def to(self, device: torch.device, memory_format: torch.memory_format) -> None:
        """Move the teacher to where the student is."""
        self.teacher.to(device).to(memory_format=memory_format)

    def __call__(self, loss: Tensor, images: Tensor, logits: Tensor) -> Tensor:
        """Mix a loss, a scalar, with the distance of the student's ``logits`` (N, num_classes) from the teacher's."""
        with torch.no_grad():
            wanted = self.teacher(images)
        student, teacher = ((each.float() / self.temperature).log_softmax(1) for each in (logits, wanted))
        distance = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
        return (1 - self.weight) * loss + self.weight * self.temperature**2 * distance
