import math

import pytest
import torch

from efficientconv.training.progress import CHUNK, StepSums, TrainSums


def scalars(*values):
    return [torch.tensor(value) for value in values]


def test_adds_up_by_hand():
    sums = StepSums()
    sums.add(4, *scalars(2.0, 3), penalty=None)
    sums.add(2, *scalars(0.5, 2), penalty=None)
    assert sums.read() == TrainSums(steps=2, images=6, loss=9.0, correct=5, penalty=0, finite_steps=2)
    sums.add(2, *scalars(1.0, 0), penalty=None)
    assert sums.read() == sums.read() == TrainSums(steps=3, images=8, loss=11.0, correct=5, penalty=0, finite_steps=3)
    sums.start()
    assert sums.read() == TrainSums()


def test_more_steps_than_are_kept_one_by_one():
    sums = StepSums()
    for step in range(CHUNK + 3):
        sums.add(1, *scalars(float(step), 1), penalty=torch.tensor(0.5))
    count = CHUNK + 3
    expected = TrainSums(count, count, count * (count - 1) / 2, count, count / 2, count)
    assert sums.read() == expected


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_counts_the_steps_before_the_first_that_is_no_number(bad):
    sums = StepSums()
    for loss, penalty in ((1.0, 1.0), (1.0, bad), (1.0, 1.0)):
        sums.add(1, *scalars(loss, 0), penalty=torch.tensor(penalty))
    assert (sums.read().steps, sums.read().finite_steps) == (3, 1)
    sums.add(1, *scalars(1.0, 0), penalty=torch.tensor(1.0))
    assert (sums.read().steps, sums.read().finite_steps) == (4, 1)


def test_goes_on_where_a_checkpoint_left_off():
    sums = StepSums()
    sums.start(TrainSums(1, 10, 20.0, 5, 0, 1))
    sums.add(10, *scalars(1.0, 10), penalty=None)
    assert sums.read() == TrainSums(2, 20, 30.0, 15, 0, 2)


def test_over_ranks():
    first, second = TrainSums(3, 6, 1.5, 4, 0.25, 3), TrainSums(3, 5, 2.5, 1, 0.75, 2)
    assert TrainSums.over([first, second]) == TrainSums(3, 11, 4.0, 5, 0.5, 2)
    assert TrainSums.over([first]) == first
