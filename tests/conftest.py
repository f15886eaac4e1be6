"""Shared by all tests: one thread a worker, so that parallel workers do not fight over the cores."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
