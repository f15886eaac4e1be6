"""The backbones as a user gets them: by the name of a file in ``configs/model``."""

from collections.abc import Callable

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import nn

from efficientconv.config_path import CONFIGS

Build = Callable[..., nn.Module]


@pytest.fixture
def build() -> Build:
    """Build ``model=<name>`` with overrides."""

    def build_model(name: str, num_classes: int, *overrides: str) -> nn.Module:
        with initialize_config_dir(str(CONFIGS), version_base=None):
            config = compose(overrides=[f"+model={name}", *overrides])
        return instantiate(config.model, _convert_="all")(num_classes=num_classes)

    return build_model


@pytest.fixture
def count(build: Build) -> Callable[..., int]:
    """Count the parameters of ``model=<name>`` with overrides, without allocating them."""

    def count_parameters(name: str, num_classes: int, *overrides: str) -> int:
        with torch.device("meta"):
            model = build(name, num_classes, *overrides)
        return sum(parameter.numel() for parameter in model.parameters())

    return count_parameters


@pytest.fixture
def fill() -> Callable[[nn.Module], nn.Module]:
    """Fill a model's floating-point state by a formula of whole numbers, so that no weights need be stored."""

    @torch.no_grad()
    def fill_state(model: nn.Module) -> nn.Module:
        for index, (name, tensor) in enumerate(model.state_dict().items()):
            if not tensor.is_floating_point():
                continue
            i = torch.arange(tensor.numel()) + 7919 * index
            noise = (((31 * i + 7) * i % 65521).double() / 32760 - 1).reshape(tensor.shape)  # in [−1, 1]
            if tensor.dim() > 1:
                tensor.copy_(noise * (6 / tensor[0].numel()) ** 0.5)
            elif name.endswith(("running_mean", "bias")):
                tensor.copy_(0.1 * noise)
            else:
                tensor.copy_(1 + 0.5 * noise)
        return model

    return fill_state


@pytest.fixture
def images() -> torch.Tensor:
    """Two images (2, 3, 32, 32) in float64, by a formula."""
    return torch.sin(torch.arange(2 * 3 * 32 * 32, dtype=torch.float64) * 0.13).reshape(2, 3, 32, 32)
