import torch
from torch import nn

from efficientconv.layers.squeeze_excitation import SqueezeExcitation


def test_by_hand():
    layer = SqueezeExcitation(2, 1)
    with torch.no_grad():
        layer.fc1.weight.copy_(torch.tensor([[1.0, -2.0]]))
        layer.fc1.bias.fill_(1)
        layer.fc2.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        layer.fc2.bias.copy_(torch.tensor([0.0, 3.0]))
    x = torch.tensor([[[[2.0, 6.0]], [[0.0, 2.0]]]])  # means 4 and 1: 4 − 2 + 1 = 3, then (3, 0)
    weights = torch.sigmoid(torch.tensor([3.0, 0.0]))
    torch.testing.assert_close(layer(x), x * weights.view(1, 2, 1, 1))


def test_a_negative_sum_is_cut_off():
    layer = SqueezeExcitation(1, 1)
    for parameter in layer.parameters():
        nn.init.constant_(parameter, -1)
    x = torch.full((1, 1, 1, 1), 2.0)  # ReLU(−2 − 1) = 0, then sigmoid(−1)
    torch.testing.assert_close(layer(x).item(), 2 * torch.sigmoid(torch.tensor(-1.0)).item())
