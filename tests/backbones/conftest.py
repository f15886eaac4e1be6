"""The backbones as a user gets them: by the name of a file in ``configs/model``."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from efficientconv.config_path import CONFIGS
from efficientconv.profiling.meta import QuickMeta

Build = Callable[..., nn.Module]


@cache
def composed(name: str) -> DictConfig:
    """Compose ``model=<name>``, which takes longer than to build most networks."""
    with initialize_config_dir(str(CONFIGS), version_base=None):
        return compose(overrides=[f"+model={name}"])


@pytest.fixture
def build() -> Build:
    """Build ``model=<name>`` with other values of its keys."""

    def build_model(name: str, num_classes: int, *values: str) -> nn.Module:
        config = OmegaConf.merge(OmegaConf.to_container(composed(name)), OmegaConf.from_dotlist(list(values)))
        return instantiate(config.model, _convert_="all")(num_classes=num_classes)

    return build_model


@pytest.fixture
def count(build: Build) -> Callable[..., int]:
    """Count the parameters of ``model=<name>`` with other values, without allocating them."""

    def count_parameters(name: str, num_classes: int, *values: str) -> int:
        with torch.device("meta"), QuickMeta():
            model = build(name, num_classes, *values)
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
