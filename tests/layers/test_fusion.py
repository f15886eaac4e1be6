import copy

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck

from efficientconv.layers.fusion import softmax_fusion, softmax_fusion_of_norms


def test_by_hand():
    y1 = torch.tensor([[[[1.0, 3.0]], [[5.0, 5.0]]]])  # means 2 and 5
    y2 = torch.tensor([[[[0.0, 4.0]], [[9.0, 1.0]]]])  # the same
    assert softmax_fusion(y1, y2).tolist() == [[[[0.5, 3.5]], [[7.0, 3.0]]]]


def test_the_larger_mean_wins_in_each_image_and_channel():
    y1 = torch.tensor([100.0, 0.0, 0.0, 100.0]).view(2, 2, 1, 1)
    y2 = torch.tensor([0.0, 100.0, 100.0, 0.0]).view(2, 2, 1, 1)
    assert softmax_fusion(y1, -y1).flatten().tolist() == [100, 0, 0, 100]
    assert softmax_fusion(y1, y2).flatten().tolist() == [100] * 4


def test_precision_of_the_first_stays():
    y = torch.ones(1, 2, 2, 2, dtype=torch.bfloat16)
    assert softmax_fusion(y, y).dtype == torch.bfloat16


def norm() -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(3, dtype=torch.float64)
    nn.init.uniform_(made.weight, 0.5, 1.5)
    nn.init.uniform_(made.bias)
    return made


def images() -> Tensor:
    return (torch.randn(2, 3, 4, 2, dtype=torch.float64) * 2 + 1).requires_grad_()


@pytest.mark.parametrize("modes", [(True, True), (True, False), (False, False)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_fusion_of_norms_is_that_of_what_they_normalise(memory_format, modes):
    torch.manual_seed(0)
    norms = [norm().train(mode) for mode in modes]
    twins, y1, y2 = copy.deepcopy(norms), images(), images()
    leaves, formatted = (y1, y2), [y.contiguous(memory_format=memory_format) for y in (y1, y2)]
    found = softmax_fusion_of_norms(formatted[0], norms[0], formatted[1], norms[1])
    expected = softmax_fusion(twins[0](y1), twins[1](y2))
    grad = torch.randn_like(expected)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, (*leaves, *(p for each in norms for p in each.parameters())), grad),
        torch.autograd.grad(expected, (*leaves, *(p for each in twins for p in each.parameters())), grad),
    )
    for each, twin in zip(norms, twins, strict=True):
        torch.testing.assert_close(dict(each.named_buffers()), dict(twin.named_buffers()))


def test_gradients_of_the_fusion_of_norms():
    norm1, norm2 = norm(), norm()
    inputs = (images(), images(), *norm1.parameters(), *norm2.parameters())
    assert gradcheck(lambda y1, y2, *parameters: softmax_fusion_of_norms(y1, norm1, y2, norm2), inputs)


def test_gradients_of_its_gradient_are_refused():
    y1, y2 = images(), images()
    (by,) = torch.autograd.grad(softmax_fusion_of_norms(y1, norm(), y2, norm()).square().sum(), y1, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        by.sum().backward()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_gradients_of_the_fusion(memory_format):
    torch.manual_seed(0)
    y1, y2 = (images().detach().contiguous(memory_format=memory_format).requires_grad_() for _ in range(2))
    assert gradcheck(softmax_fusion, (y1, y2))


def test_the_fusion_is_the_drawn_one(drawn):
    torch.manual_seed(0)
    y1, y2 = images(), images()
    with drawn():
        expected = softmax_fusion(y1, y2)
    torch.testing.assert_close(softmax_fusion(y1, y2), expected)
