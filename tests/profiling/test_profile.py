import json

import pytest
import timm
import torch
import torchvision
from torch import nn

from efficientconv.layers import DOConv2d
from efficientconv.profiling import CONVENTIONS, complexity


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1, bias=False))
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


def test_every_module_counts_what_is_below_it():
    model = Net()
    model.head.requires_grad_(False)
    profile = complexity(model, (3, 10, 10))
    figures = {
        name: (module.kind, module.params, module.trainable_params, module.macs, module.activations)
        for name, module in profile.modules.items()
    }
    assert figures == {
        "": ("Net", 224 + 64 + 45, 224 + 64, 21600 + 6400 + 40, 800 + 800 + 5),
        "body": ("Sequential", 224 + 64, 224 + 64, 21600 + 6400, 1600),
        "body.0": ("Conv2d", 224, 224, 21600, 800),
        "body.1": ("Conv2d", 64, 64, 6400, 800),
        "head": ("Linear", 45, 0, 40, 5),
    }
    assert (profile.model, profile.params, profile.trainable_params) == ("Net", 333, 288)
    assert (profile.macs, profile.activations) == (28040, 1605)
    assert profile.totals["macs"] == profile.macs
    assert profile.peak_activation_bytes == 4 * 100 * (3 + 8 + 8)


def test_shared_parameters_count_once():
    conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    profile = complexity(nn.Sequential(conv, nn.ReLU(), conv), (4, 5, 5))
    assert profile.params == 144
    assert profile.macs == 2 * 25 * 144


def test_a_composed_kernel_counts_as_trained_and_as_folded():
    layer = DOConv2d(4, 8, 3, padding=1)
    trained, folded = complexity(layer, (4, 6, 6)), complexity(layer.fold(), (4, 6, 6))
    assert trained.macs == folded.macs == 36 * 8 * 4 * 9
    assert trained.params == folded.params + 4 * 9 * 9
    assert folded.weight_macs == 0
    assert trained.weight_macs == 8 * 4 * 9 * 9  # each of 8·4 kernels of 9 taps from 9 weights


@pytest.mark.parametrize(
    ("model", "params", "macs"),
    [
        (torchvision.models.resnet18, 11.690, 1814.1),
        (torchvision.models.resnet50, 25.557, 4089.2),
        (torchvision.models.mobilenet_v2, 3.505, 300.8),
        (lambda: timm.create_model("ghostnet_100"), 5.183, 141.2),
    ],
)
def test_known_networks(model, params, macs):
    with torch.device("meta"):
        profile = complexity(model(), (3, 224, 224))
    assert round(profile.params / 1e6, 3) == params
    assert round(profile.macs / 1e6, 1) == macs


def test_to_dict_is_plain():
    plain = complexity(Net(), (3, 10, 10)).to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["totals"].keys() == CONVENTIONS.keys()
    assert plain["modules"]["body.0"]["macs"] == 21600


@pytest.mark.parametrize("size", [(3, 10), (3, 0, 10), (3, 10.0, 10), (1, 3, 10, 10)])
def test_a_size_that_is_no_image_is_refused(size):
    with pytest.raises(ValueError, match=r"input_size=.*: must be channels, height and width, as in \(3, 32, 32\)"):
        complexity(Net(), size)
