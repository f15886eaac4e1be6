"""Every layer in every network: how many convolutions each paper's own rule replaces, and how many any rule could."""

from functools import lru_cache
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from efficientconv.backbones.cifar import cifar_preresnet, cifar_resnet, wrn
from efficientconv.backbones.mobilenet import mobilenetv1, mobilenetv2, mobilenetv3_large, mobilenetv3_small
from efficientconv.backbones.vgg import VGG16
from efficientconv.compose import Where, replace_convs
from efficientconv.errors import UserError
from efficientconv.profiling.meta import QuickMeta

CONFIGS = Path(__file__).parents[2] / "configs" / "conv"
EVERY = Where(kernel_sizes=None, groups=("dense", "depthwise", "grouped"), stem=True)

OURS = {
    "resnet20": lambda: cifar_resnet(10, depth=20),
    "preresnet20": lambda: cifar_preresnet(10, depth=20),
    "wrn16-2": lambda: wrn(10, depth=16, width=2),
    "vgg16": lambda: VGG16(10),
    "mobilenetv1": lambda: mobilenetv1(10, width=0.5, stem="cifar"),
    "mobilenetv2": lambda: mobilenetv2(10, width=0.5, stem="cifar"),
    "mobilenetv3_small": lambda: mobilenetv3_small(10, width=0.5, stem="cifar"),
    "mobilenetv3_large": lambda: mobilenetv3_large(10, width=0.5, stem="cifar"),
}
TORCHVISION = ("resnet18", "resnet50", "resnext50_32x4d", "vgg16_bn", "densenet121")

# replaced by the paper's own rule
PAPERS_RULE = """
                       bsconv_u  bsconv_s  doconv  spconv  slimconv  bdrconv
resnet20                     19        19      19      18         0       18
preresnet20                  19        19      19      18         0       18
wrn16-2                      13        13      13      12         0       12
vgg16                        13        13      13      12         0       12
mobilenetv1                  13         1      14       0         0        0
mobilenetv2                   1        17      18       0         0        0
mobilenetv3_small             1        11      12       0         0        0
mobilenetv3_large             1        15      16       0         0        0
resnet18                     16        16      17      16         0       16
resnet50                     16        16      17      16        16       16
resnext50_32x4d               0         0      17       0        16        0
vgg16_bn                     13        13      13      12         0       12
densenet121                  58        58      59      58         0        0
mobilenetv2_100               1        17      18       0         0        0
efficientnet_b0               1        16      17       0         0        0
regnety_004                   1         1      17       0         0        0
convnext_atto                 0         0      16       0         0        0
repvgg_a0                    22        22      22      21         0       20
tf_efficientnet_lite0         1        16      17       0         0        0
"""

# the same of the layers that the papers compare with, in a plain, a mobile, a bottleneck and a dense network
BASELINES_RULE = """
             ghost  hetconv  octconv  ssdconv  dualconv  pconv  scconv  condconv  odconv  repvgg  acnet
resnet20        21       18       20       18        18     16      16        18      18      19     19
mobilenetv2     36        0       52        0         0      0       0        17      52       1     18
resnet50        52       16       52       16        16     13      13        16      48      16     16
densenet121    119       58      119       58        58      0       0        58     119      58     58
"""

# selected by their own rule and kept: what changes its width or its resolution
KEPT = {
    ("repvgg_a0", "bdrconv"): 1,
    ("resnet20", "pconv"): 2,
    ("resnet20", "scconv"): 2,
    ("resnet50", "pconv"): 3,
    ("resnet50", "scconv"): 3,
}

# replaced where every convolution but the 1×1s is offered; all others are kept
OFFERED_ALL = """
                       bsconv_u  bsconv_s  doconv  spconv  slimconv  bdrconv
resnet20                     19        19      19      18         0       19
preresnet20                  19        19      19      18         0       19
wrn16-2                      13        13      13      12         0       13
vgg16                        13        13      13      12         0       13
mobilenetv1                   1         1      14       0         0        1
mobilenetv2                   1         1      18       0         0        1
mobilenetv3_small             1         1      12       0         0        1
mobilenetv3_large             1         1      16       0         0        1
resnet18                     17        17      17      16         0       17
resnet50                     17        17      17      16        16       17
resnext50_32x4d               1         1      17       0        16        1
vgg16_bn                     13        13      13      12         0       13
densenet121                  59        59      59      58         0        1
mobilenetv2_100               1         1      18       0         0        1
efficientnet_b0               1         1      17       0         0        1
regnety_004                   1         1      17       0         0        1
convnext_atto                 4         4      16       0         0        0
repvgg_a0                    22        22      22      21         0       21
tf_efficientnet_lite0         1         1      17       0         0        1
"""

# one of each kind of network at once: plain, of one path, of depthwise units, with gates, of bottlenecks, grouped
OFFERED_AT_ONCE = ("resnet20", "vgg16", "mobilenetv2", "mobilenetv3_small", "resnet50", "resnext50_32x4d")


def pairs(table):
    header, *rows = table.strip("\n").splitlines()
    for row in rows:
        network, *counts = row.split()
        yield from ((network, conv, int(n)) for conv, n in zip(header.split(), counts, strict=True))


@lru_cache(maxsize=1)
def build(network):
    """Return a network without memory behind its weights, and the side of its images."""
    with torch.device("meta"), QuickMeta():
        return _built(network), 32 if network in OURS else 64


def _built(network):
    if network in OURS:
        return OURS[network]()
    if network in TORCHVISION:
        return getattr(torchvision.models, network)(num_classes=10)
    return timm.create_model(network, num_classes=10)


def settings_of(conv):
    return instantiate(OmegaConf.load(CONFIGS / f"{conv}.yaml"), _convert_="all")


def check(network, conv, where, units, expected):
    """Replace, and run what comes out; the report of it."""
    model, size = build(network)
    layer = settings_of(conv)["layer"]
    if not expected:
        with pytest.raises(UserError, match=f"selects nothing in {type(model).__name__}|can replace none of the"):
            replace_convs(model, layer, where, units=units)
        return None
    new, report = replace_convs(model, layer, where, units=units)
    with torch.no_grad(), QuickMeta():
        assert new.eval()(torch.empty(1, 3, size, size, device="meta")).shape == (1, 10)
    assert len(report.replaced) == expected
    assert type(new) is type(model)
    return report


def cases(table, slow):
    for network, conv, expected in pairs(table):
        yield pytest.param(network, conv, expected, marks=[pytest.mark.slow] * slow(network))


def is_deep(network):
    return network == "densenet121"  # in one test at once: the last


@pytest.mark.parametrize(
    ("network", "conv", "expected"), [*cases(PAPERS_RULE, slow=is_deep), *cases(BASELINES_RULE, slow=is_deep)]
)
def test_papers_own_rule(network, conv, expected):
    settings = settings_of(conv)
    report = check(network, conv, settings["where"], settings["units"], expected)
    if report is not None:
        assert len(report.kept) == KEPT.get((network, conv), 0)


@pytest.mark.parametrize(
    ("network", "conv", "expected"), list(cases(OFFERED_ALL, slow=lambda network: network not in OFFERED_AT_ONCE))
)
def test_every_convolution_offered(network, conv, expected):
    report = check(network, conv, EVERY, None, expected)
    if report is not None:
        (offered,) = {n for net, name, n in pairs(OFFERED_ALL) if (net, name) == (network, "doconv")}
        assert len(report.replaced) + len(report.kept) == offered


NETWORKS = [network for network, conv, _ in pairs(PAPERS_RULE) if conv == "doconv"]
EVERY_CONV = sorted({conv for _, conv, _ in [*pairs(PAPERS_RULE), *pairs(BASELINES_RULE)]})
TRAINED_IN = {"slimconv": "resnet50", "bsconv_s": "mobilenetv2"}  # where they do more than replace; resnet20 for others
TRAINED = [
    *((network, "doconv") for network in NETWORKS),
    *((TRAINED_IN.get(conv, "resnet20"), conv) for conv in EVERY_CONV if conv != "doconv"),
]


@pytest.mark.parametrize(("network", "conv"), TRAINED)
def test_every_parameter_of_a_new_layer_is_trained(network, conv):
    """Every network with the layer that replaces most, and every layer in one network: a step, whatever the weights."""
    settings, (model, size) = settings_of(conv), build(network)
    new, report = replace_convs(model, settings["layer"], settings["where"], units=settings["units"])
    new = _small_head(new).to_empty(device="cpu").train()
    new(torch.randn(2, 3, size, size)).sum().backward()
    untrained = [
        name for row in report.replaced for name, p in new.get_submodule(row.name).named_parameters() if p.grad is None
    ]
    assert report.replaced
    assert untrained == []


def _small_head(model):
    if isinstance(model, torchvision.models.VGG):
        model.classifier = nn.Linear(512 * 7 * 7, 10)  # in place of 124 million weights that no rule looks at
    return model
