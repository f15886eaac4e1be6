"""What tests of layers share that have a form of their own in training on a processor."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


class Drawn(TorchDispatchMode):
    """Under it a layer runs as its paper draws it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def step(layer: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Return the output, all gradients and all buffers."""
    y = layer(x)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    by = torch.autograd.grad((y * weights).sum(), [x, *layer.parameters()])
    return {"y": y, **dict(zip(["x", *dict(layer.named_parameters())], by, strict=True)), **dict(layer.named_buffers())}


@pytest.fixture
def drawn() -> type[Drawn]:
    return Drawn


@pytest.fixture
def assert_as_drawn() -> Callable[[nn.Module, Tensor, float], None]:
    """Compare a layer with how its paper draws it: output, gradients and buffers of two steps."""

    def assert_as_drawn(layer: nn.Module, x: Tensor, tolerance: float) -> None:
        twin = copy.deepcopy(layer)
        for _ in range(2):
            found = step(layer, x)
            with Drawn():
                expected = step(twin, x)
        for key, value in expected.items():
            scale = max(1.0, value.abs().max().item())
            torch.testing.assert_close(found[key], value, rtol=0, atol=tolerance * scale, msg=key)

    return assert_as_drawn


@pytest.fixture
def assert_as_exact_as_drawn() -> Callable[[nn.Module, Tensor], None]:
    """Compare both with double precision: output, gradients and buffers of two steps in float32."""

    def assert_as_exact_as_drawn(layer: nn.Module, x: Tensor) -> None:
        exact, drawn, x64 = copy.deepcopy(layer).double(), copy.deepcopy(layer), x.detach().double().requires_grad_()
        for _ in range(2):
            found = step(layer, x)
            with Drawn():
                expected, near = step(exact, x64), step(drawn, x)
        for key, value in expected.items():
            scale = max(1.0, value.abs().max().item())
            errors = [(way[key] - value).abs().max().item() / scale for way in (found, near)]
            assert errors[0] < 3 * errors[1] + 2e-6, f"{key}: {errors}"

    return assert_as_exact_as_drawn


@pytest.fixture
def assert_refuses_second_gradient() -> Callable[[nn.Module, Tensor], None]:
    """Check that a gradient of the layer's gradient is refused, where it would be wrong."""

    def assert_refuses_second_gradient(layer: nn.Module, x: Tensor) -> None:
        (by,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            by.sum().backward()

    return assert_refuses_second_gradient
