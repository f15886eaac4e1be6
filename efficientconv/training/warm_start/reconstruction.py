"""New layers fitted to what they replace, on their own inputs: ``conv.initialize_from_replaced=data``.

Layer after layer, from the first to the last, each learns to give what the old one gave for the same training images,
in the least squares. The old network shows what was wanted, the new one, with the layers that are fitted already, what
there is to work with: so each makes up for the errors of those in front of it. This is the asymmetric reconstruction
of Zhang, Zou, He and Sun, "Accelerating Very Deep Convolutional Networks for Classification and Detection", IEEE TPAMI
2016, arXiv:1505.06798. They solve for one linear layer in closed form; here Adam does it, for layers of any kind, from
where ``ConvVariant.approximate`` has put them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from efficientconv.eval_mode import in_eval_mode
from efficientconv.layers.batch_norm import BATCH_NORMS
from efficientconv.training.warm_start.norms import in_order_of_calls, momentum_of, statistics_adopted

STEPS = 150  # of Adam for each layer
BATCH = 64  # images
RATE = 3e-3  # falls to zero along a cosine


def fit_layers(
    model: nn.Module, original: nn.Module, names: Sequence[str], batches: Sequence[Tensor]
) -> dict[str, float]:
    """Fit new layers to the old ones of the same names; the modes of all modules stay as they are.

    Args:
        model: the network with the new layers, changed in place.
        original: the network before the replacement.
        names: of the new layers, dotted.
        batches: training images, (N, C, H, W) each, on the device of both networks.

    Returns:
        ‖y − ŷ‖/‖y‖ of each layer's outputs on these images, by name. A layer that is narrower than the old one is not
        fitted, nor is a frozen one, and has no error.
    """
    layers = {model.get_submodule(name): name for name in names}
    inside = {module for layer in layers for module in layer.modules()}
    errors = {}
    for new in dict.fromkeys(in_order_of_calls(model, layers, batches[0])):
        name = layers[new]
        old = original.get_submodule(name)
        with _batch_statistics(model, inside):
            inputs = torch.cat([_seen(model, new, batch)[0] for batch in batches])
        with in_eval_mode(original):
            outputs = torch.cat([_seen(original, old, batch)[1] for batch in batches])
        error = _fit(new, inputs, outputs)
        if error is not None:
            errors[name] = error
    return errors


def _fit(layer: nn.Module, inputs: Tensor, outputs: Tensor) -> float | None:
    """Fit one layer and return its error; keep it as it was where that comes out worse."""
    parameters = [parameter for parameter in layer.parameters() if parameter.requires_grad]
    with in_eval_mode(layer), torch.enable_grad():
        if not parameters or layer(inputs[:1]).shape[1:] != outputs.shape[1:]:
            return None
        _adopt(layer, inputs)
        before, state = _error(layer, inputs, outputs), copy.deepcopy(layer.state_dict())
        _descend(layer, parameters, inputs, outputs)
        after = _error(layer, inputs, outputs)
        if not after < before:
            layer.load_state_dict(state)
            return before
        _adopt(layer, inputs)
        return after


def _descend(layer: nn.Module, parameters: list[nn.Parameter], inputs: Tensor, outputs: Tensor) -> None:
    optimizer, energy = Adam(parameters, lr=RATE), outputs.square().mean()
    schedule = CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        chosen = torch.randperm(len(inputs), device=inputs.device)[:BATCH]
        loss = (layer(inputs[chosen]) - outputs[chosen]).square().mean() / energy
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


@torch.no_grad()
def _error(layer: nn.Module, inputs: Tensor, outputs: Tensor) -> float:
    pairs = zip(inputs.split(BATCH), outputs.split(BATCH), strict=True)
    missed = sum(((layer(x) - y).square().sum() for x, y in pairs), start=torch.zeros((), device=inputs.device))
    return float((missed / outputs.square().sum()).sqrt())


@torch.no_grad()
def _adopt(layer: nn.Module, inputs: Tensor) -> None:
    """Let the norms inside a layer know what they see; the layer computes the same as before in eval mode."""
    norms = [module for module in layer.modules() if isinstance(module, nn.BatchNorm2d)]
    if norms:
        with statistics_adopted(norms):
            for batch in inputs.split(BATCH):
                layer(batch)


@torch.no_grad()
def _seen(model: nn.Module, module: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a module in a network gets and gives for some images."""
    seen: list[tuple[Tensor, Tensor]] = []
    with module.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0].clone(), output.clone()))):
        model(images)
    return seen[0]


@contextmanager
def _batch_statistics(model: nn.Module, inside: set[nn.Module]) -> Iterator[None]:
    """Let a network's norms, but not those inside new layers, normalise by each batch, and learn nothing from it."""
    norms = [module for module in model.modules() if isinstance(module, BATCH_NORMS) and module not in inside]
    with in_eval_mode(model), momentum_of(norms, 0.0):
        for norm in norms:
            norm.train()
        yield
