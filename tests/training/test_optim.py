import copy
import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn

from efficientconv.training.optim import (
    ScheduledRate,
    constant,
    fuse_on_cpu,
    parameter_groups,
    scale_rates,
    step_decay,
    warmup_cosine,
)


def rates(schedule, steps, **settings):
    return [schedule(step, steps, **settings) for step in range(steps)]


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


def scheduled(total_steps, epochs):
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1.0, 0.5)], lr=1.0)
    return ScheduledRate(optimizer, partial(warmup_cosine, warmup=0.1), total_steps, epochs)


@pytest.mark.parametrize(
    ("total_steps", "epochs", "step"),
    [(120, 12, 40), (60, 12, 20), (240, 12, 80), (240, 24, 40)],
    ids=["nothing changed", "twice the devices", "half the devices", "twice the epochs"],
)
def test_a_place_in_the_schedule_moves_to_another_count_of_steps(total_steps, epochs, step):
    before = scheduled(total_steps=120, epochs=12)
    for _ in range(40):
        before.optimizer.step()
        before.step()
    after = scheduled(total_steps, epochs)
    after.load_state_dict(before.state_dict())
    expected = warmup_cosine(step, total_steps, warmup=0.1)
    assert [group["lr"] for group in after.optimizer.param_groups] == [expected, 0.5 * expected]
    assert after.get_last_lr() == [expected, 0.5 * expected]
    assert after.fraction_done == pytest.approx(4 / epochs)
    after.optimizer.step()
    after.step()
    assert after.get_last_lr()[0] == warmup_cosine(step + 1, total_steps, warmup=0.1)


@pytest.mark.parametrize("decay_norm_and_bias", [True, False])
def test_what_a_timm_network_asks_to_spare_does_not_decay(decay_norm_and_bias):
    import timm

    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1, num_classes=2)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, spared = (
        {names[id(parameter)] for parameter in group["params"]}
        for group in parameter_groups(model, decay_norm_and_bias)
    )
    assert {"pos_embed", "cls_token"} <= spared
    assert decayed | spared == set(names.values())
    assert ("norm.bias" in spared) is not decay_norm_and_bias
    assert "head.weight" in decayed


def test_layer_decay_lowers_the_rate_from_block_to_block():
    from efficientconv.backbones import cifar_resnet

    model = cifar_resnet(10, depth=8)
    groups = parameter_groups(model, decay_norm_and_bias=True, layer_decay=0.5)
    optimizer = torch.optim.SGD(groups, lr=0.8)
    scale_rates(optimizer)
    rates = {}
    for group in optimizer.param_groups:
        names = [name for name, own in model.named_parameters() if any(own is each for each in group["params"])]
        rates |= {name.rpartition(".conv")[0] or name.partition(".")[0]: group["lr"] for name in names}
    assert optimizer.param_groups[0]["lr"] == rates["classifier"] == 0.8  # the rate that is shown
    assert rates["stages.2.0.conv2"] == 0.4
    assert rates["stages.1.0.conv1"] == 0.2
    assert rates["stages.0.0.conv2"] == 0.1
    assert rates["stem"] == 0.05
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_layer_decay_keeps_what_does_not_decay_apart():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    groups = parameter_groups(model, decay_norm_and_bias=False, layer_decay=0.5)
    found = [(len(group["params"]), group.get("weight_decay"), group["lr_scale"]) for group in groups]
    assert found == [(0, None, 1.0), (2, 0.0, 1.0), (1, None, 0.5), (1, 0.0, 0.5)]


def test_rates_without_a_scale_stay():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    scale_rates(optimizer)
    assert optimizer.param_groups[0]["lr"] == 0.3


def stepped(model, fuse):
    model = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
    fuse(optimizer)
    for _ in range(3):
        model(torch.ones(2, 3)).square().sum().backward()
        optimizer.step()
    return optimizer, list(model.parameters())


def test_one_operator_for_all_parameters_steps_as_one_for_each():
    model = nn.Linear(3, 4)
    (fused, found), (_, expected) = stepped(model, fuse_on_cpu), stepped(model, lambda optimizer: None)
    assert fused.param_groups[0]["fused"]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("make", "device"),
    [
        (partial(torch.optim.SGD, foreach=True), "cpu"),
        (partial(torch.optim.SGD, fused=False), "cpu"),
        (partial(torch.optim.SGD, differentiable=True), "cpu"),
        (torch.optim.SGD, "meta"),
        (torch.optim.RMSprop, "cpu"),
    ],
)
def test_other_optimizers_step_as_they_were_told(make, device):
    optimizer = make([nn.Parameter(torch.zeros(2, device=device))])
    before = dict(optimizer.param_groups[0])
    fuse_on_cpu(optimizer)
    assert optimizer.param_groups[0] == before
