import pytest
import torch
from torch import nn

from efficientconv.backbones.imagenet_preresnet import basic_preresnet, bottleneck_preresnet

# BSConv's own pre-activation ImageNet nets, counted in the authors' code; theirs scales and shifts the image, +6
BSCONV = {10: 5_417_134, 18: 11_687_854, 26: 17_958_574, 34: 21_796_014, 68: 41_867_438, 102: 58_397_870}
SMALL = [1, 1, 1, 1]


@pytest.mark.parametrize(("depth", "parameters"), BSCONV.items())
def test_basic_nets_have_bsconvs_parameters_but_for_the_image(depth, parameters, count):
    assert count(f"preresnet{depth}", 1000) == parameters - 6


def test_image_is_normalised_without_scale_and_shift():
    model = basic_preresnet(10, layers=SMALL)
    assert list(model.data_norm.parameters()) == []
    x = 5 + 3 * torch.randn(4, 3, 32, 32)
    assert model.data_norm(x).mean() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(("make", "channels"), [(basic_preresnet, 512), (bottleneck_preresnet, 2048)])
@pytest.mark.parametrize(("stem", "side"), [("imagenet", 2), ("cifar", 8)])
def test_stems_reduce_by_4_or_not_at_all(make, channels, stem, side):
    model = make(10, layers=SMALL, stem=stem)
    features = model.stages(model.stem(torch.randn(2, 3, 64, 64)))
    assert features.shape == (2, channels, side, side)


def test_first_stage_of_bottlenecks_projects_without_stride():
    first = bottleneck_preresnet(10, layers=SMALL).stages[0][0]
    assert (first.projection.in_channels, first.projection.out_channels, first.projection.stride) == (64, 256, (1, 1))
    assert basic_preresnet(10, layers=SMALL).stages[0][0].projection is None


def test_ends_in_norm_and_relu():
    assert [type(module) for module in basic_preresnet(10, layers=SMALL).neck] == [nn.BatchNorm2d, nn.ReLU]


@pytest.mark.parametrize("make", [basic_preresnet, bottleneck_preresnet])
def test_bad_arguments(make):
    with pytest.raises(ValueError, match=r"^layers=\[2, 2, 2\]: must be 4 whole numbers"):
        make(10, layers=[2, 2, 2])
    with pytest.raises(ValueError, match=r"^stem='tiny': must be one of imagenet, cifar$"):
        make(10, layers=SMALL, stem="tiny")
