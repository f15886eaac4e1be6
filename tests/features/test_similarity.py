"""Cosine similarities of maps that are small enough to work them out on paper."""

import math

import pytest
import torch

from efficientconv.features.similarity import similarity


def test_multiples_are_alike_opposites_are_not_and_zeros_are_left_out():
    maps = torch.tensor([[[3.0, 4.0]], [[6.0, 8.0]], [[-3.0, -4.0]], [[0.0, 0.0]], [[4.0, 3.0]]])
    found = similarity(maps.unsqueeze(0))  # (1, 5, 1, 2)
    assert found.dead == 1
    assert found.pairs.tolist() == pytest.approx([1, -1, 0.96, -1, 0.96, -0.96])
    assert found.mean == pytest.approx(-0.04 / 6)
    assert found.alike == pytest.approx(3 / 6)


def test_maps_of_one_image_are_not_compared_with_those_of_another():
    first, second = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert similarity(torch.stack([first, second]).unsqueeze(2)).pairs.tolist() == [1, 0]


def test_of_a_single_map_there_is_no_pair():
    assert math.isnan(similarity(torch.ones(2, 1, 3, 3)).mean)
