from functools import partial

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from efficientconv.backbones.cifar import cifar_resnet, wrn
from efficientconv.backbones.mobilenet import mobilenetv1, mobilenetv3_small
from efficientconv.backbones.vgg import VGG16
from efficientconv.compose import Where, replace_convs
from efficientconv.layers import BSConvS, BSConvU, HetConv2d, OrthonormalConv2d, SlimConv2d, SPConv2d
from efficientconv.profiling import CONVENTIONS, complexity

PIXELS = 8 * 8

# what each module of the net below costs, worked out by hand
CONV = PIXELS * 4 * 3 * 9
CONV_BIAS = PIXELS * 4
BATCH_NORM_INPUTS = ACTIVATION_OUTPUTS = MAX_POOL_INPUTS = PIXELS * 4
AVERAGE_POOL_INPUTS = 16 * 4
AVERAGE_POOL_OUTPUTS = GLOBAL_POOL_INPUTS = 4 * 4
LINEAR = 4 * 10
LINEAR_BIAS = 10
MODULES = (  # all but the classifier, by the tools that hooked modules
    CONV
    + CONV_BIAS
    + 2 * BATCH_NORM_INPUTS
    + ACTIVATION_OUTPUTS
    + MAX_POOL_INPUTS
    + AVERAGE_POOL_INPUTS
    + GLOBAL_POOL_INPUTS
)


def small_net():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.AvgPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 10),
    )


@pytest.mark.parametrize(
    ("convention", "count"),
    [
        ("macs", CONV + LINEAR),
        ("bsconv", MODULES + LINEAR + LINEAR_BIAS),
        (
            "thop2020",
            CONV + CONV_BIAS + 4 * BATCH_NORM_INPUTS + (2 + 1) * AVERAGE_POOL_OUTPUTS + (4 + 1) * 4 + 2 * LINEAR,
        ),
        ("ptflops2020", MODULES + LINEAR),
        ("hetconv", CONV + CONV_BIAS + LINEAR),
        ("hetconv_unbiased", CONV + LINEAR),
        ("mmcls2021", MODULES),
        ("fvcore", CONV + 2 * BATCH_NORM_INPUTS + GLOBAL_POOL_INPUTS + LINEAR),
        ("mmpretrain", CONV + 2 * BATCH_NORM_INPUTS + GLOBAL_POOL_INPUTS),
        ("torchsummaryx", CONV + 4 + LINEAR),
    ],
)
def test_each_convention_by_hand(convention, count):
    assert complexity(small_net(), (3, 8, 8)).totals[convention] == count


def total(convention, *modules, size=(4, 8, 8)):
    return complexity(nn.Sequential(*modules), size).totals[convention]


def test_batch_norm_without_affine():
    plain = nn.BatchNorm2d(4, affine=False)
    assert [total(name, plain) for name in ("bsconv", "ptflops2020", "thop2020")] == [256, 256, 4 * 256]


def test_bsconv_counts_relu_alone_and_ptflops_its_relatives_too():
    assert [total("bsconv", act) for act in (nn.ReLU(), nn.ReLU6(), nn.Hardswish(), nn.PReLU())] == [256, 0, 0, 0]
    assert [total("ptflops2020", act) for act in (nn.ReLU(), nn.ReLU6(), nn.Hardswish(), nn.PReLU())] == [
        256,
        256,
        0,
        256,
    ]
    assert total("thop2020", nn.ReLU()) == 0


def test_thop_took_the_kernel_size_of_an_average_pool_as_it_was_given():
    assert total("thop2020", nn.AvgPool2d(2)) == (2 + 1) * 64
    assert total("thop2020", nn.AvgPool2d((2, 2))) == (4 + 1) * 64


class Mean(nn.Module):
    def __init__(self, *dims):
        super().__init__()
        self.dims = dims

    def forward(self, x):
        return x.mean(self.dims)


def test_mmcls_counts_a_global_pool_however_it_is_written_and_ptflops_modules_alone():
    pools = (Mean(2, 3), nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d(2))
    assert [total("mmcls2021", pool) for pool in pools] == [256, 256, 256]
    assert [total("ptflops2020", pool) for pool in pools] == [0, 256, 256]
    assert total("mmcls2021", Mean(1)) == 0  # over the channels: no pool


def test_thop_took_an_adaptive_pool_for_windows_that_do_not_overlap():
    assert [total("thop2020", pool) for pool in (Mean(2, 3), nn.AdaptiveAvgPool2d(1))] == [(64 + 1) * 4] * 2
    assert total("thop2020", nn.AdaptiveAvgPool2d(2), size=(4, 7, 7)) == (3 * 3 + 1) * 16
    assert total("thop2020", Mean(1)) == 0


class Einsum(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 4))

    def forward(self, x):
        return torch.einsum("bchw,oc->bohw", x, self.weight)


def test_einsum_with_weights_counts_as_the_convolution_it_is():
    profile = complexity(nn.Sequential(Einsum()), (4, 8, 8))
    assert (profile.macs, profile.activations) == (PIXELS * 5 * 4, PIXELS * 5)
    assert profile.modules["0"].macs == profile.macs
    assert profile.totals["bsconv"] == 0  # whose tool saw modules alone


class Attention(nn.Module):
    def forward(self, x):
        tokens = x.flatten(2)  # (1, C, H·W)
        return F.scaled_dot_product_attention(tokens, tokens, tokens)


def test_products_of_activations_and_sums_cost_nothing():
    assert {name: total(name, Attention()) for name in CONVENTIONS} == dict.fromkeys(CONVENTIONS, 0)


def test_hetconv_counts_a_bias_for_every_convolution():
    assert total("hetconv", nn.Conv2d(4, 4, 1, bias=False)) == PIXELS * (16 + 4)


def test_hetconv_counts_the_kernels_that_exist():
    layer = HetConv2d(4, 4, 3, padding=1, p=2, bias=False)
    dense = PIXELS * (4 * 4 * 9 + 4)
    assert total("hetconv", layer) == round(dense * (1 / 2 + 1 / 2 / 9))
    assert total("macs", layer) == PIXELS * 4 * 4 * 9  # what runs


def counted(model, convention, size):
    """Return millions, to the two places that the papers print."""
    profile = complexity(model, size)
    return round(profile.params / 1e6, 2), round(profile.totals[convention] / 1e6, 2)


RULE = Where(kernel_sizes=(3, 5), stem=True)
PROJECTIONS = {"projection": OrthonormalConv2d}
UNITS = {"depthwise_separable": BSConvU}


@pytest.mark.parametrize(
    ("backbone", "layer", "units", "published"),
    [
        (lambda: cifar_resnet(100, depth=20), None, None, (0.28, 41.42)),
        (lambda: cifar_resnet(100, depth=110), None, None, (1.74, 256.34)),
        (lambda: wrn(100, depth=16, width=12), partial(BSConvS, p=1 / 4, with_bn=True), None, (1.82, 289.49)),
        (lambda: mobilenetv1(10, stem="cifar"), None, None, (3.22, 179.34)),
        (lambda: mobilenetv1(100, width=0.25, stem="cifar"), BSConvU, UNITS, (0.24, 17.68)),
        (lambda: mobilenetv3_small(10, width=0.35, stem="cifar"), BSConvS, PROJECTIONS, (0.31, 3.45)),
    ],
)
def test_bsconv_readme(backbone, layer, units, published):
    with torch.device("meta"):
        model = backbone()
    new, _ = replace_convs(model, layer, RULE, units=units)
    assert counted(new, "bsconv", (3, 32, 32)) == published


@pytest.mark.parametrize(
    ("alpha", "published"), [(1 / 2, (5.61, 118.27)), (1 / 4, (3.77, 79.34)), (1 / 8, (2.85, 59.87))]
)
def test_spconv_vgg16(alpha, published):
    with torch.device("meta"):
        model = VGG16(10)
    new, _ = replace_convs(model, partial(SPConv2d, alpha=alpha), Where(kernel_sizes=(3,)))
    assert counted(new, "thop2020", (3, 32, 32)) == published


def test_spconv_resnet50_baseline():
    with torch.device("meta"):
        model = torchvision.models.resnet50()
    params, flops = counted(model, "thop2020", (3, 224, 224))
    assert (params, round(flops / 1e3, 2)) == (25.56, 4.14)


@pytest.mark.parametrize(
    ("p", "published"), [(2, 175.23), (4, 105.98), (8, 71.35), (16, 54.04), (32, 45.38), (64, 41.05)]
)
def test_hetconv_vgg16(p, published):
    with torch.device("meta"):
        model = VGG16(10)
    assert counted(model, "hetconv", (3, 32, 32))[1] == 313.74
    new, _ = replace_convs(model, partial(HetConv2d, p=p), Where(kernel_sizes=(3,)))
    assert complexity(new, (3, 32, 32)).totals["hetconv"] // 10**4 / 100 == published  # cut off, as the paper does


@pytest.mark.parametrize(
    ("network", "num_splits", "convention", "published"),
    [
        ("resnet50", 2, "macs", (16.76, 2.65)),
        ("resnet50", 4, "macs", (12.10, 1.88)),
        ("resnet101", 2, "ptflops2020", (27.96, 4.87)),
    ],
)
def test_slimconv_imagenet(network, num_splits, convention, published):
    with torch.device("meta"):
        model = getattr(torchvision.models, network)()
    new, _ = replace_convs(model, partial(SlimConv2d, num_splits=num_splits), Where(kernel_sizes=(3,)))
    params, flops = counted(new, convention, (3, 224, 224))
    assert (params, round(flops / 1e3, 2)) == published
