from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from efficientconv.layers.concatenation import concatenate

FORMATS = pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])


def parts(memory_format: torch.memory_format) -> list[Tensor]:
    torch.manual_seed(0)
    images = [torch.randn(2, width, 3, 2, dtype=torch.float64) for width in (3, 1, 2)]
    return [image.contiguous(memory_format=memory_format).requires_grad_() for image in images]


@FORMATS
def test_values_and_gradients(memory_format):
    given = parts(memory_format)
    assert concatenate(*given).equal(torch.cat(given, 1))
    assert gradcheck(concatenate, given)
    assert gradgradcheck(concatenate, given)


@FORMATS
def test_each_gradient_is_laid_out_as_its_part(memory_format):
    given = parts(memory_format)
    y = concatenate(*(2 * part for part in given))
    found = torch.autograd.grad(y, given, torch.randn_like(y))
    assert all(by.is_contiguous(memory_format=memory_format) for by in found)


def test_a_compiler_sees_a_plain_concatenation():
    given = parts(torch.contiguous_format)
    program = torch.export.export(_Module(), tuple(given))
    assert "cat.default" in str(program.graph)


class _Module(torch.nn.Module):
    def forward(self, *given: Tensor) -> Tensor:
        return concatenate(*given)
