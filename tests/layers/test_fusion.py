import torch

from efficientconv.layers.fusion import softmax_fusion


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
