from __future__ import annotations

import pytest
import torch

from efficientconv.datasets.split import missing_classes, stratified_split

LABELS = torch.tensor([0] * 10 + [1] * 20 + [2] * 5)[torch.randperm(35, generator=torch.Generator().manual_seed(0))]


@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.5, 1.0])
def test_each_class_gives_its_share_and_nothing_is_lost(fraction: float) -> None:
    taken, left = stratified_split(LABELS, fraction, seed=0)
    assert torch.bincount(LABELS[taken], minlength=3).tolist() == [round(fraction * n) for n in (10, 20, 5)]
    assert torch.cat([taken, left]).sort().values.tolist() == list(range(35))
    assert taken.tolist() == sorted(taken.tolist())


def test_the_seed_decides() -> None:
    first, again, other = (stratified_split(LABELS, 0.5, seed)[0].tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_a_smaller_fraction_is_part_of_a_larger_one() -> None:
    few, many = (set(stratified_split(LABELS, fraction, seed=3)[0].tolist()) for fraction in (0.2, 0.6))
    assert few < many


def test_missing_classes() -> None:
    assert missing_classes(torch.tensor([0, 3, 3]), num_classes=5) == [1, 2, 4]
    assert missing_classes(LABELS, num_classes=3) == []
