import torch
from torch import nn

from efficientconv.layers.pooling import stride_pooling


def test_windows_at_the_border_average_what_they_have():
    x = torch.arange(9.0).view(1, 1, 3, 3)  # 0 1 2 / 3 4 5 / 6 7 8
    assert stride_pooling((2, 2))(x).flatten().tolist() == [2, 3.5, 6.5, 8]


def test_size_is_the_ceiling_at_every_stride():
    for size in range(1, 12):
        for rows in range(1, 5):
            pooled = stride_pooling((rows, 1))(torch.ones(1, 1, size, 3))
            assert pooled.shape == (1, 1, -(-size // rows), 3)
            assert pooled.eq(1).all()


def test_no_stride_is_no_pooling():
    assert isinstance(stride_pooling((1, 1)), nn.Identity)
