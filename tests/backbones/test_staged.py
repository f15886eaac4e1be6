import pytest
import torch
from torch import nn

from efficientconv.backbones.staged import (
    StagedNet,
    build_stages,
    check_stem,
    conv_norm,
    named_sequence,
    norm_activation,
)


def unit(in_channels: int, out_channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 1, stride)


def small_net() -> StagedNet:
    return StagedNet(
        data_norm=nn.BatchNorm2d(3),
        stem=nn.Conv2d(3, 64, 3),
        stages=conv_norm(64, 200, 3),
        neck=nn.Identity(),
        channels=200,
        num_classes=50,
    )


def test_convolutions_start_kaiming_uniform_and_without_bias():
    net = small_net()
    for weight, fan_in in ((net.stem.weight, 27), (net.stages.conv.weight, 576)):
        bound = (6 / fan_in) ** 0.5
        assert weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    assert torch.equal(net.stem.bias, torch.zeros(64))


def test_classifier_starts_xavier_normal_with_torchs_bias():
    classifier = small_net().classifier
    assert classifier.weight.std().item() == pytest.approx((2 / 250) ** 0.5, rel=0.05)
    assert classifier.weight.abs().max() > 3 * (2 / 250) ** 0.5  # normal: 10,000 values reach beyond three sigma
    assert 0 < classifier.bias.abs().max() <= 200**-0.5


def test_parts_follow_each_other():
    net = small_net().eval()
    x = torch.randn(2, 3, 8, 8)
    features = net.stages(net.stem(net.data_norm(x)))
    expected = features.mean((2, 3)) @ net.classifier.weight.flatten(1).T + net.classifier.bias
    assert torch.allclose(net(x), expected, atol=1e-5)


def test_conv_norm_keeps_the_size_up_to_its_stride():
    block = conv_norm(4, 6, 5, stride=2, groups=2, activation=nn.ReLU6)
    assert block(torch.randn(2, 4, 7, 8)).shape == (2, 6, 4, 4)
    assert [name for name, _ in block.named_children()] == ["conv", "norm", "activation"]
    assert block.conv.bias is None
    assert block.conv.groups == 2
    assert isinstance(block.activation, nn.ReLU6)
    assert [name for name, _ in conv_norm(4, 6, 3, activation=None).named_children()] == ["conv", "norm"]


def test_norm_activation_is_a_norm_and_a_relu():
    assert [type(module) for module in norm_activation(5)] == [nn.BatchNorm2d, nn.ReLU]


def test_named_sequence_keeps_order_and_names():
    sequence = named_sequence(second=nn.ReLU(), first=nn.Identity())
    assert list(dict(sequence.named_children())) == ["second", "first"]


def test_first_unit_of_a_stage_has_its_stride():
    stages = build_stages(unit, 3, widths=[(4, 5), (6, 7, 8)], strides=(1, 2))
    geometry = [[(conv.in_channels, conv.out_channels, conv.stride[0]) for conv in stage] for stage in stages]
    assert geometry == [[(3, 4, 1), (4, 5, 1)], [(5, 6, 2), (6, 7, 1), (7, 8, 1)]]


def test_stem_is_one_of_two():
    check_stem("imagenet")
    check_stem("cifar")
    with pytest.raises(ValueError, match=r"^stem='small': must be one of imagenet, cifar$"):
        check_stem("small")
