import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from efficientconv.training.optim import constant, parameter_groups, step_decay, warmup_cosine


def rates(schedule, steps, **settings):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = schedule(optimizer, total_steps=steps, **settings)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_step_decay_of_the_papers_falls_at_epochs_100_150_and_180_of_200():
    steps_per_epoch = 391
    found = rates(step_decay, 200 * steps_per_epoch, milestones=[0.5, 0.75, 0.9], gamma=0.1)
    expected = {0: 1.0, 99: 1.0, 100: 0.1, 149: 0.1, 150: 0.01, 179: 0.01, 180: 0.001, 199: 0.001}
    assert {epoch: pytest.approx(found[epoch * steps_per_epoch]) for epoch in expected} == expected
    assert found[100 * steps_per_epoch - 1] == 1.0


def test_warmup_cosine_rises_to_the_full_rate_and_falls_to_zero():
    found = rates(warmup_cosine, 100, warmup=0.1)
    assert found[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert found[10] == 1.0
    assert found[55] == pytest.approx(0.5)
    assert found[99] == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90)))
    assert all(a > b for a, b in pairwise(found[10:]))


def test_constant_stays():
    assert rates(constant, 5) == [1.0] * 5


@pytest.mark.parametrize(
    ("schedule", "settings", "message"),
    [
        (step_decay, {"milestones": [0.5, 1.5], "gamma": 0.1}, r"milestones=\[0.5, 1.5\]: increasing fractions"),
        (step_decay, {"milestones": [0.7, 0.5], "gamma": 0.1}, r"milestones=\[0.7, 0.5\]: increasing fractions"),
        (warmup_cosine, {"warmup": 1.0}, "warmup=1.0: must be a fraction"),
    ],
)
def test_refuses(schedule, settings, message):
    with pytest.raises(ValueError, match=message):
        rates(schedule, 10, **settings)


def test_parameter_groups_spare_norms_and_biases_when_asked():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    model[2].weight.requires_grad = False
    (everything,) = parameter_groups(model, decay_norm_and_bias=True)
    assert len(everything["params"]) == 5
    decayed, spared = parameter_groups(model, decay_norm_and_bias=False)
    assert [p.shape for p in decayed["params"]] == [model[0].weight.shape]
    assert len(spared["params"]) == 4
    assert spared["weight_decay"] == 0.0
