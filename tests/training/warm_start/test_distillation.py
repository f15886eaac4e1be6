import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from efficientconv.training.classifier import Classifier, TrainingLoss
from efficientconv.training.warm_start.distillation import Distillation


class Fixed(nn.Module):
    """Gives the same logits for every image."""

    def __init__(self, *logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, images):
        return self.logits.expand(len(images), -1)


def test_the_loss_is_that_of_the_paper():
    images = torch.zeros(2, 3, 4, 4)
    # T = 2: the teacher's logits 2·ln 3 and 0 are 3/4 and 1/4, the student's equal ones 1/2 and 1/2
    distill = Distillation(Fixed(2 * math.log(3), 0.0), weight=0.25, temperature=2)
    distance = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    found = distill(torch.tensor(8.0), images, torch.zeros(2, 2))
    assert float(found) == pytest.approx(0.75 * 8 + 0.25 * 4 * distance)


def test_the_student_learns_and_the_teacher_does_not():
    student, teacher = Fixed(0.0, 0.0), Fixed(1.0, 0.0)
    loss = TrainingLoss(student, F.cross_entropy, (), 0.0, Distillation(teacher, weight=1, temperature=1))
    images, targets = torch.zeros(2, 3, 4, 4), torch.tensor([1, 1])
    found, cross_entropy, _ = loss(images, targets)
    found.backward()
    assert torch.allclose(student.logits.grad, torch.tensor([0.5, 0.5]) - F.softmax(torch.tensor([1.0, 0.0]), 0))
    assert teacher.logits.grad is None
    assert float(cross_entropy) == pytest.approx(math.log(2))  # what is recorded stays comparable


def test_the_teacher_is_in_no_checkpoint_and_stays_in_eval_mode():
    teacher = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 2))
    distillation = Distillation(teacher, weight=0.5, temperature=4)
    classifier = Classifier(Fixed(0.0, 0.0), 2, distillation=distillation).train()
    assert [key for key in classifier.state_dict() if "teacher" in key] == []
    assert len(list(classifier.parameters())) == 1
    assert not teacher.training
