import torch
from torch import nn

from efficientconv.layers.reparameterization import ConvBN, identity_convolution, sum_of_convolutions


def filled(value: float, kernel_size: tuple[int, int], padding: tuple[int, int]) -> nn.Conv2d:
    conv = nn.Conv2d(1, 1, kernel_size, padding=padding)
    nn.init.constant_(conv.weight, value)
    nn.init.constant_(conv.bias, value)
    return conv


def test_kernels_meet_at_their_centres():
    convs = filled(1, (3, 5), (1, 2)), filled(10, (1, 3), (0, 1)), filled(100, (1, 1), (0, 0))
    result = sum_of_convolutions(*convs)
    assert result.weight[0, 0].tolist() == [[1, 1, 1, 1, 1], [1, 11, 111, 11, 1], [1, 1, 1, 1, 1]]
    assert result.bias.item() == 111
    x = torch.arange(12.0).view(1, 1, 3, 4)
    torch.testing.assert_close(result(x), sum(conv(x) for conv in convs))
    assert convs[0].weight.eq(1).all()


def test_identity_convolution_hands_channels_through():
    x = torch.randn(2, 6, 3, 3)
    for groups in (1, 2, 6):
        assert torch.equal(identity_convolution(nn.BatchNorm2d(6), groups)(x), x)


def test_conv_bn_folds_by_hand():
    layer = ConvBN(nn.Conv2d(1, 1, 1, bias=False)).eval()
    nn.init.constant_(layer.conv.weight, 5)
    layer.bn.eps = 0
    layer.bn.running_mean.fill_(3)
    layer.bn.running_var.fill_(4)
    folded = layer.fold()
    assert (folded.weight.item(), folded.bias.item()) == (2.5, -1.5)  # (5·x − 3)/2
    assert layer(torch.ones(1, 1, 1, 1)).item() == folded(torch.ones(1, 1, 1, 1)).item() == 1
