"""What every layer in C++ is held to, beside its own geometry."""

from __future__ import annotations

import torch
from torch import Tensor, nn

OTHER_INPUTS = {
    "nchw": lambda x: x.contiguous(memory_format=torch.contiguous_format),
    "columns": lambda x: x[..., :4],
    "meta": lambda x: x.to("meta"),
    "double": lambda x: x.double(),
    "other channels": lambda x: torch.cat((x, x), 1).contiguous(memory_format=torch.channels_last),
}
"""Images that no layer in C++ takes."""

ONE_VALUE = {"one value": lambda x: x[:1, :, :1, :1].contiguous(memory_format=torch.channels_last)}
"""What a batch norm refuses."""


def gradients(layer: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    """Return those of the squared output, of the image and of all parameters."""
    return torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()])


def are_the_same(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> bool:
    return all(a.equal(b) for a, b in zip(found, expected, strict=True))


def assert_threads_change_no_digit(layer: nn.Module, x: Tensor, threads: int) -> None:
    before = torch.get_num_threads()
    expected = gradients(layer, x)
    torch.set_num_threads(threads)
    try:
        found = gradients(layer, x)
    finally:
        torch.set_num_threads(before)
    assert are_the_same(found, expected)


def assert_only_what_is_asked_for(
    layer: nn.Module, x: Tensor, resting: nn.Module | nn.Parameter, trained: nn.Parameter
) -> None:
    """Check a step without a gradient of the image and of ``resting``, and one without any."""
    resting.requires_grad_(False)
    layer(x.detach()).sum().backward()  # of the sum the gradient is one number, expanded
    assert all(p.grad is None for p in layer.parameters() if not p.requires_grad)
    assert trained.grad.abs().sum() > 0
    with torch.no_grad():
        assert not layer(x).requires_grad


def assert_has_a_gradient(layer: nn.Module, x: Tensor) -> None:
    layer(x).sum().backward()
    assert x.grad.abs().sum() > 0


def assert_to_rounding(found: Tensor, exact: Tensor) -> None:
    """Compare with what double precision gives."""
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-5 * exact.abs().max().item())
