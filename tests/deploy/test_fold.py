import copy

import pytest
import timm
import torch
import torchvision
from torch import nn

from efficientconv.backbones import cifar_resnet, mobilenetv1
from efficientconv.compose import replace_convs
from efficientconv.config_path import CONFIGS
from efficientconv.deploy import fold
from efficientconv.deploy.fold import require_same
from efficientconv.errors import UserError
from tests.deploy.conftest import conv_config, with_random_norms

CONVS = sorted(file.stem for file in (CONFIGS / "conv").glob("*.yaml"))
ONE_CONVOLUTION = ("doconv", "repvgg", "acnet", "hetconv")


def network(conv: str) -> nn.Module:
    torch.manual_seed(0)
    plain = timm.create_model("resnet26", num_classes=10) if conv == "slimconv" else cifar_resnet(10, depth=8)
    config = conv_config(conv)
    if config["layer"] is None:
        return with_random_norms(plain)
    return with_random_norms(replace_convs(plain, config["layer"], config["where"], units=config["units"])[0])


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def graph(model: nn.Module) -> list[str]:
    return [f"{name} {module}" for name, module in model.named_modules() if next(module.children(), None) is None]


@torch.no_grad()
def assert_same(model: nn.Module, folded: nn.Module, size: int = 32) -> None:
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(5))
    expected = copy.deepcopy(model).eval()(images)
    assert not torch.equal(expected[0], expected[1])
    torch.testing.assert_close(folded(images), expected, rtol=1e-4, atol=1e-4 * max(1, expected.abs().max().item()))


@pytest.mark.parametrize("conv", CONVS)
def test_every_convolution(conv):
    model = network(conv).train()
    before = copy.deepcopy(model.state_dict())
    folded = fold(model)
    assert_same(model, folded)
    assert norms(folded) < norms(model) or conv == "ghost"
    assert model.training
    assert not folded.training
    assert type(folded) is type(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("conv", ONE_CONVOLUTION)
def test_what_folds_to_one_convolution_is_the_plain_network(conv):
    assert graph(fold(network(conv))) == graph(fold(network("standard")))


@pytest.mark.parametrize(
    ("name", "left"),
    [("resnet18", 0), ("mobilenet_v3_small", 0), ("shufflenet_v2_x0_5", 0), ("squeezenet1_0", 0), ("densenet121", 62)],
)
def test_networks_of_torchvision(name, left):
    model = with_random_norms(torchvision.models.get_model(name, num_classes=10))
    folded = fold(model)
    assert norms(folded) == left  # in a DenseNet, those behind a concatenation
    assert_same(model, folded, 64)


@pytest.mark.parametrize(
    ("name", "left"),
    [("tf_efficientnet_b0", 0), ("mobileone_s0", 0), ("repvgg_a0", 0), ("resnetv2_50", 17)],
)
def test_networks_of_timm(name, left):
    model = with_random_norms(timm.create_model(name, num_classes=10))
    folded = fold(model)
    assert norms(folded) == left  # in a pre-activation network, those that see a sum
    assert_same(model, folded, 64)


def test_depthwise_separable_units():
    model = with_random_norms(mobilenetv1(10, width=0.25, stem="cifar"))
    assert norms(fold(model)) == 1  # the one on the image, in front of a padded convolution


class Untraceable(nn.Module):
    """A network whose way depends on what it sees, around parts whose way does not."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.conv, self.norm = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)

    def forward(self, x):
        x = self.stem(x)
        return (self.norm(self.conv(x)) if x.mean() > -100 else x).mean((2, 3))


def test_a_network_that_cannot_be_traced_is_folded_part_by_part():
    model = with_random_norms(Untraceable())
    folded = fold(model)
    assert (norms(folded.stem), norms(folded)) == (0, 1)
    assert_same(model, folded)


class DoublingNorm(nn.BatchNorm2d):
    def forward(self, x):
        return 2 * super().forward(x)


def test_a_fold_that_would_change_the_numbers_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), DoublingNorm(4))
    with pytest.raises(UserError, match=r"folding would change the network: its outputs differ by .*1e-04 is allowed"):
        fold(model)


def test_no_number_is_no_agreement():
    with pytest.raises(UserError, match="differ by nan"):
        require_same(torch.zeros(2), torch.tensor([0.0, float("nan")]), 1e-4)


def test_a_network_that_runs_on_no_image_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(7, 2))
    with pytest.raises(UserError, match=r"input_size=\(3, 20, 20\): the network does not run on such images"):
        fold(model, (3, 20, 20))


def test_grey_images():
    model = with_random_norms(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)))
    assert norms(fold(model)) == 0
