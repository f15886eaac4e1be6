"""The feature maps of a stage: what a module of a trained network gives for some test images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from efficientconv.deploy.trained import TrainedRun
from efficientconv.errors import UserError, nearest_first

DEFAULT_STAGES = ("stages.0", "layer1", "blocks.0", "features.0")
"""First stages: of this project's networks, of ResNets, of most of timm's networks, of torchvision's MobileNets."""


@dataclass(frozen=True)
class FeatureMaps:
    """A stage's feature maps of some images.

    Attributes:
        run: what it is called.
        stage: the module's dotted name.
        images: (N, C, H, W) float, as the network sees them.
        maps: (N, channels, h, w) float32.
    """

    run: str
    stage: str
    images: Tensor
    maps: Tensor


def read_maps(trained: TrainedRun, name: str, stage: str | None, images: int, weights: str | None) -> FeatureMaps:
    """Show test images at even distances to a run's network, and keep what a stage makes of them.

    Args:
        trained: a finished run.
        name: what it is called.
        stage: a module's dotted name; ``None`` is the first stage, where the network is of a kind that is known.
        images: how many.
        weights: as ``TrainedRun.network`` takes them.

    Raises:
        UserError: the network has no such module, or what it gives are no feature maps.
    """
    network, _ = trained.network(weights)
    chosen = choose_stage(network, name, stage)
    batches = [batch for batch, _ in trained.data.test_sample(images)]
    with torch.inference_mode():
        maps = [_output(network, chosen, batch, name) for batch in batches]
    return FeatureMaps(name, chosen, torch.cat(batches), torch.cat(maps))


def choose_stage(network: nn.Module, name: str, stage: str | None) -> str:
    """Return the name of the module whose maps are shown.

    Raises:
        UserError: there is none of that name, or none was given and the network's stages have other names.
    """
    known = [module for module, _ in network.named_modules() if module]
    if stage is None:
        found = next((default for default in DEFAULT_STAGES if default in known), None)
        if found is None:
            raise UserError(
                f"stage is missing: {name} has none of {', '.join(DEFAULT_STAGES)}; give one of {known[:9]}"
            )
        return found
    if stage not in known:
        near = nearest_first(stage, known, most=5)
        raise UserError(f"stage={stage}: {name} has no stage of that name; nearest first: {near}")
    return stage


def _output(network: nn.Module, stage: str, images: Tensor, name: str) -> Tensor:
    """Return what the module gives (N, channels, h, w) when the network sees the images."""
    found: list[Any] = []
    with network.get_submodule(stage).register_forward_hook(lambda module, inputs, output: found.append(output)):
        network(images)
    maps = found[-1] if found else None
    if not isinstance(maps, Tensor) or maps.ndim != 4 or maps.shape[2] * maps.shape[3] < 2:
        shape = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise UserError(f"stage={stage}: in {name} this gives no feature maps (N, channels, height, width) but {shape}")
    return maps.float().clone()  # an activation behind it may work in place
