import math

import torch
from torch import nn

from efficientconv.layers.initialization import reset_to_default, reset_to_kaiming_fan_out


def spoiled() -> nn.Sequential:
    model = nn.Sequential(nn.Conv2d(64, 128, 3, groups=2), nn.BatchNorm2d(128), nn.Linear(128, 4))
    for tensor in model.state_dict().values():
        tensor.fill_(50)
    return model


def test_default_is_torchs_and_complete():
    torch.manual_seed(0)
    model = spoiled()
    reset_to_default(model)
    bound = 1 / math.sqrt(32 * 9)
    assert 0.99 * bound < model[0].weight.abs().max() <= bound
    assert model[0].bias.abs().max() <= bound
    assert not any((tensor == 50).any() for tensor in model.state_dict().values())


def test_kaiming_fan_out():
    torch.manual_seed(0)
    model = spoiled()
    reset_to_kaiming_fan_out(model)
    deviation = math.sqrt(2 / (128 * 9))  # torch takes no account of groups in the fan-out
    assert abs(model[0].weight.std().item() / deviation - 1) < 0.02
    assert model[0].bias.abs().max() <= 1 / math.sqrt(32 * 9)
    assert model[1].running_var.eq(1).all()
