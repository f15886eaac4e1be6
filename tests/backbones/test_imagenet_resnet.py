import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from efficientconv.backbones.imagenet_resnet import basic_resnet, bottleneck_resnet, bottleneck_resnet_v1, plain_net
from efficientconv.profiling.meta import QuickMeta

BASIC = {10: 5_418_792, 18: 11_689_512, 26: 17_960_232, 34: 21_797_672, 68: 41_869_096, 102: 58_399_528}
SMALL = [1, 1, 1, 1]


def macs(model: nn.Module) -> float:
    """Millions of multiply-adds at 224×224; ``model`` is on the meta device."""
    with QuickMeta(), FlopCounterMode(display=False) as counter, torch.device("meta"), torch.no_grad():
        model(torch.empty(1, 3, 224, 224))
    return counter.get_total_flops() / 2e6


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d"])
def test_torchvisions_own_nets(name, build):
    with torch.device("meta"), QuickMeta():
        ours, theirs = build(name, 1000), models.get_model(name, weights=None)
    shapes = {key: value.shape for key, value in theirs.state_dict().items()}
    assert {key: value.shape for key, value in ours.state_dict().items()} == shapes
    assert repr(ours) == repr(theirs)


@pytest.mark.parametrize(
    ("name", "published_params", "published_macs"),
    [
        ("resnet18", 11.690, 1814.1),
        ("resnet34", 21.798, 3663.8),
        ("resnet50", 25.557, 4089.2),
        ("resnet101", 44.549, 7801.4),
    ],
)
def test_published_parameters_and_macs(name, published_params, published_macs, build):
    with torch.device("meta"), QuickMeta():
        model = build(name, 1000)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 3) == published_params
    assert round(macs(model), 1) == published_macs


@pytest.mark.parametrize("depth", [10, 18, 26, 34, 68, 102])
def test_basic_resnets_differ_from_bsconvs_by_the_norm_on_the_image(depth, count):
    bsconv = {10: 5_418_798, 18: 11_689_518, 26: 17_960_238, 34: 21_797_678, 68: 41_869_102, 102: 58_399_534}
    assert count(f"resnet{depth}", 1000) == bsconv[depth] - 6
    convs = depth - 2
    with torch.device("meta"):
        blocks = basic_resnet(10, layers=[1, 1, 1, (convs - 6) // 2])
    assert sum(module.kernel_size == (3, 3) for module in blocks.modules() if isinstance(module, nn.Conv2d)) == convs


def test_first_form_has_the_published_macs(build):
    # ODConv's table prints 25.56M, 3858M and 44.55M, 7570M
    for name, published_params, published_macs in (("resnet50_v1", 25.56, 3858), ("resnet101_v1", 44.55, 7570)):
        with torch.device("meta"), QuickMeta():
            model = build(name, 1000, "model.conv_bias=false")
        assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2) == published_params
        assert round(macs(model)) == published_macs


def test_first_form_strides_in_the_first_1x1_with_bias():
    model = bottleneck_resnet_v1(10, layers=[1, 2, 1, 1])
    first, second = model.layer2
    assert (first.conv1.stride, first.conv2.stride, first.conv3.stride) == ((2, 2), (1, 1), (1, 1))
    assert (second.conv1.stride, second.conv2.stride) == ((1, 1), (1, 1))
    assert first.conv1.bias.shape == (128,)
    assert first.conv3.bias.shape == (512,)
    assert first.conv2.bias is None
    assert first.downsample[0].bias is None
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_second_form_strides_in_the_3x3():
    block = bottleneck_resnet(10, layers=SMALL).layer2[0]
    assert (block.conv1.stride, block.conv2.stride) == ((1, 1), (2, 2))


def test_plain_net_is_a_resnet_without_shortcuts(count):
    torch.manual_seed(0)
    model = plain_net(4, layers=SMALL).eval()
    assert not any("downsample" in name for name in model.state_dict())
    x = torch.randn(2, 3, 32, 32)
    features = model.maxpool(model.relu(model.bn1(model.conv1(x))))
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        block = stage[0]
        hidden = block.bn1(block.conv1(features)).relu()
        features = block.bn2(block.conv2(hidden)).relu()
    assert torch.allclose(model(x), model.fc(features.mean((2, 3))), atol=1e-6)
    # option-B shortcuts of ResNet-18: three 1×1 convolutions with norms
    assert count("resnet18", 1000) - count("plain18", 1000) == 64 * 128 + 128 * 256 + 256 * 512 + 2 * (128 + 256 + 512)


@pytest.mark.parametrize("make", [basic_resnet, plain_net, bottleneck_resnet, bottleneck_resnet_v1])
def test_small_image_stem_keeps_the_size(make):
    model = make(10, layers=SMALL, stem="cifar")
    x = torch.randn(2, 3, 32, 32)
    assert model.maxpool(model.conv1(x)).shape == (2, 64, 32, 32)
    assert model.conv1.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.1)
    assert model(x).shape == (2, 10)


def test_resnext101_32x3d_has_its_own_stages(build):
    with torch.device("meta"):
        model = build("resnext101_32x3d", 1000)
    assert [len(stage) for stage in (model.layer1, model.layer2, model.layer3, model.layer4)] == [4, 8, 18, 3]
    conv = model.layer1[0].conv2
    assert (conv.out_channels, conv.groups) == (96, 32)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"^layers=\[3, 4\]: must be 4 whole numbers"):
        basic_resnet(10, layers=[3, 4])
    with pytest.raises(ValueError, match=r"^stem='cifar10': must be one of imagenet, cifar$"):
        plain_net(10, layers=SMALL, stem="cifar10")
    with pytest.raises(ValueError, match=r"^groups=0: must be a whole number of at least 1$"):
        bottleneck_resnet(10, layers=SMALL, groups=0)
    with pytest.raises(ValueError, match=r"^width_per_group=1.5: must be a whole number of at least 1$"):
        bottleneck_resnet(10, layers=SMALL, width_per_group=1.5)
