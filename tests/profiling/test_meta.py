import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efficientconv.profiling.meta import QuickMeta, meta_copy


def image(*shape: int, dtype=torch.float32) -> Tensor:
    return torch.empty(shape, device="meta", dtype=dtype)


X = image(2, 6, 5, 4)
COLUMN = image(1, 6, 1, 1)

OPERATIONS = {
    "sum": lambda: X + X,
    "sum with a number": lambda: X + 1,
    "sum with a column": lambda: COLUMN + X,
    "outer product": lambda: COLUMN * image(2, 1, 5, 4),
    "product with a vector of fewer dimensions": lambda: X * image(4),
    "product with a scalar": lambda: X * image(),
    "scalar alone": lambda: -image(),
    "sum of two data types": lambda: X + image(2, 6, 5, 4, dtype=torch.float64),
    "product with a scalar of a wider data type": lambda: X * image(dtype=torch.float64),
    "product of a narrower data type": lambda: image(2, 6, 5, 4, dtype=torch.bfloat16) * COLUMN,
    "in place, of a wider data type": lambda: image(2, 6, 5, 4).add_(image(1, 6, 1, 1, dtype=torch.float64)),
    "sum of whole numbers": lambda: image(3, dtype=torch.int64) * 0.5,
    "empty": lambda: image(0, 6, 1, 1) + COLUMN,
    "in place": lambda: image(2, 6, 5, 4).add_(COLUMN),
    "relu": lambda: F.relu(X),
    "relu in place": lambda: F.relu(image(2, 3), inplace=True),
    "hardswish": lambda: F.hardswish(X),
    "gelu": lambda: F.gelu(X, approximate="tanh"),
    "clamp": lambda: X.clamp(0, 6),
    "mean of pixels": lambda: X.mean((2, 3)),
    "mean, dimensions kept": lambda: X.mean((-1, -2), keepdim=True),
    "sum of rows": lambda: X.sum(0),
    "mean of all": lambda: X.mean(),
    "mean in another data type": lambda: X.mean((2, 3), dtype=torch.float64),
    "adaptive pool": lambda: F.adaptive_avg_pool2d(X, (3, 2)),
    "cat": lambda: torch.cat([X, COLUMN.expand(2, 6, 5, 4)], dim=-1),
    "stack": lambda: torch.stack([X, X, X], -2),
    "batch norm": lambda: F.batch_norm(X, image(6), image(6), image(6), image(6)),
    "batch norm in training": lambda: F.batch_norm(X, image(6), image(6), training=True),
    "linear": lambda: F.linear(image(3, 4), image(7, 4), image(7)),
    "batch of products": lambda: torch.bmm(image(2, 3, 4), image(2, 4, 5)),
    "Einstein's sum": lambda: torch.einsum("dekl,ei->dikl", X, image(6, 3)),
    "ones alike": lambda: torch.ones_like(X[:1, :1]),
    "ones alike, in another data type": lambda: torch.ones_like(X, dtype=torch.float64),
    "sum of a product in place": lambda: image(2, 6, 5, 4).addcmul_(X, COLUMN),
    "convolution": lambda: F.conv2d(X, image(8, 6, 3, 3), image(8)),
    "strided, padded, dilated, grouped convolution": lambda: F.conv2d(X, image(4, 3, 3, 2), None, (2, 3), 2, 2, 2),
    "convolution padded as its input": lambda: F.conv2d(X, image(4, 6, 3, 3), padding="same"),
    "convolution of one image": lambda: F.conv2d(X[0], image(4, 6, 3, 3)),
    "convolution of a line": lambda: F.conv1d(X[0], image(4, 5, 3)),
    "transposed convolution": lambda: F.conv_transpose2d(X, image(6, 4, 3, 3), stride=2, output_padding=1),
    "average pool": lambda: F.avg_pool2d(X, 2),
    "average pool, padded": lambda: F.avg_pool2d(X, (3, 2), stride=(2, 1), padding=1),
    "average pool of one image, rounded up": lambda: F.avg_pool2d(X[0], 2, ceil_mode=True),
    "average pool, its last window beyond the padding": lambda: F.avg_pool2d(X, 2, 3, 1, ceil_mode=True),
    "maximum pool": lambda: F.max_pool2d(X, 3, stride=2, padding=1),
    "maximum pool, dilated": lambda: F.max_pool2d(X, 2, dilation=2),
    "places of maxima": lambda: F.max_pool2d(X, 2, return_indices=True)[1],
    "convolution of no images": lambda: F.conv2d(image(0, 6, 5, 4), image(8, 6, 3, 3)),
}

FAULTS = {
    "sum": lambda: X + image(2, 6, 5, 3),
    "in place": lambda: image(1, 6, 1, 1).add_(X),
    "cat": lambda: torch.cat([X, COLUMN]),
    "linear": lambda: F.linear(image(3, 4), image(7, 5), image(7)),
    "batch of products of other sizes": lambda: torch.bmm(image(2, 3, 4), image(2, 5, 4)),
    "sum of a product in place": lambda: image(1, 6, 1, 1).addcmul_(X, X),
    "convolution of other channels": lambda: F.conv2d(X, image(8, 5, 3, 3)),
    "average pool larger than the image": lambda: F.avg_pool2d(X, 6),
    "average pool padded too much": lambda: F.avg_pool2d(X, 2, padding=2),
    "maximum pool larger than the image": lambda: F.max_pool2d(X, 6),
    "convolution larger than the image": lambda: F.conv2d(X, image(8, 6, 7, 7)),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_is_told_from_shapes_is_what_torch_says(name):
    expected = OPERATIONS[name]()
    with QuickMeta():
        told = OPERATIONS[name]()
    assert (told.shape, told.dtype, told.device) == (expected.shape, expected.dtype, expected.device)


@pytest.mark.parametrize("name", FAULTS)
def test_what_torch_refuses_is_refused_in_its_words(name):
    with pytest.raises(RuntimeError) as expected:
        FAULTS[name]()
    with QuickMeta(), pytest.raises(RuntimeError) as error:
        FAULTS[name]()
    assert str(error.value) == str(expected.value)


def test_numbers_on_a_device_with_memory_are_computed():
    with QuickMeta():
        assert torch.equal(torch.ones(2) + torch.ones(2), torch.full((2,), 2.0))
        assert torch.zeros(3).normal_(5, 0.1).min() > 3


def test_a_copy_without_memory_keeps_what_is_trained_and_shared():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    model[0].weight.requires_grad_(False)
    model.append(model[0])
    copied = meta_copy(model)
    assert all(tensor.is_meta for tensor in (*copied.parameters(), *copied.buffers()))
    assert not copied[0].weight.requires_grad
    assert copied[2] is copied[0]
    assert not model[0].weight.is_meta


def test_counting_a_network_does_not_import_the_compiler():
    lines = [
        "import sys",
        "from efficientconv.cli import main",
        "sys.argv = ['efficientconv', 'profile', 'model=resnet20', 'conv=bdrconv']",
        "main()",
        "heavy = {'torch._dynamo', 'sympy', 'timm', 'torchvision', 'lightning', 'wandb'} & set(sys.modules)",
        "sys.exit(str(heavy) if heavy else 0)",
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
