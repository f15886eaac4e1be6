from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from efficientconv.training.compiled import CompiledNetwork


@pytest.fixture
def network() -> CompiledNetwork:
    torch._dynamo.reset()
    counters.clear()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))
    return CompiledNetwork(model, backend="eager")


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


def run_epoch(network: CompiledNetwork, *sizes: int) -> None:
    for size in sizes:
        network(torch.randn(size, 3, 6, 6)).sum().backward()


def test_the_smaller_last_batch_compiles_nothing(network):
    run_epoch(network, 8, 8, 5)
    assert graphs() == 1
    network.model.eval()
    with torch.no_grad():
        run_evaluation = [network(torch.randn(size, 3, 6, 6)) for size in (16, 16, 3)]
    assert [len(logits) for logits in run_evaluation] == [16, 16, 3]
    assert graphs() == 2  # training and evaluation
    network.model.train()
    run_epoch(network, 8, 5)
    assert graphs() == 2


def test_batches_after_a_small_first_one_are_compiled(network):
    """A run that was interrupted may go on with the last batch of an epoch."""
    run_epoch(network, 5, 8)
    assert graphs() == 2
    run_epoch(network, 8, 5, 8)
    assert graphs() == 2


def test_a_smaller_batch_has_the_networks_gradients(network):
    run_epoch(network, 8)
    images = torch.randn(5, 3, 6, 6)
    parameters = list(network.model.parameters())
    found = torch.autograd.grad(network(images).square().sum(), parameters)
    expected = torch.autograd.grad(network.model.forward(images).square().sum(), parameters)
    torch.testing.assert_close(found, expected)
