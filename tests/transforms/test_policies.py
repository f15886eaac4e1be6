import numpy as np
import pytest
from torchvision.transforms import v2

from efficientconv.transforms import operations
from efficientconv.transforms.autoaugment import CIFAR10, IMAGENET, AutoAugment
from efficientconv.transforms.policies import BINS, SIGNED, Policy, RandAugment, TrivialAugment

SIZE = (32, 28)


def torchvisions_steps(augment: v2.Transform, bins: list[int], count: int) -> set[operations.Step]:
    """Every operation and magnitude that a policy of torchvision can apply to images of ``SIZE``."""
    steps = set()
    for name, (magnitudes, signed) in augment._AUGMENTATION_SPACE.items():
        values = magnitudes(count, *SIZE)
        chosen = [0.0] if values is None else [float(values[i]) for i in bins]
        steps |= {operations.Step(name, value) for value in chosen}
        steps |= {operations.Step(name, -value) for value in chosen if signed}
    return steps


def drawn_steps(policy: Policy, count: int = 60_000) -> set[operations.Step]:
    steps = policy.steps(SIZE)
    return {steps[code] for code in np.unique(policy.draw(count, np.random.default_rng(0)))}


def test_rand_augment_draws_torchvisions_steps():
    assert drawn_steps(RandAugment(magnitude=9)) == torchvisions_steps(v2.RandAugment(), [9], 31)


def test_trivial_augment_draws_torchvisions_steps():
    assert drawn_steps(TrivialAugment()) == torchvisions_steps(v2.TrivialAugmentWide(), list(range(31)), 31)


@pytest.mark.parametrize("policy", [RandAugment(num_ops=2), TrivialAugment()])
def test_operations_and_signs_are_drawn_alike(policy: Policy):
    known, codes = policy.steps(SIZE), policy.draw(50_000, np.random.default_rng(1)).flatten()
    steps = [known[code] for code in codes]
    names, counts = np.unique([step.operation for step in steps], return_counts=True)
    assert len(names) == 14
    assert counts == pytest.approx(len(steps) / 14, rel=0.1)
    signs = [step.magnitude < 0 for step in steps if step.operation in SIGNED and step.magnitude]
    assert np.mean(signs) == pytest.approx(0.5, abs=0.02)


def test_the_spread_is_that_of_the_magnitude():
    policy = RandAugment(magnitude=20, spread=2.0)
    known, codes = policy.steps(SIZE), policy.draw(20_000, np.random.default_rng(0)).flatten()
    steps = [known[code] for code in codes]
    levels = [abs(step.magnitude) / 30.0 * (BINS - 1) for step in steps if step.operation == "Rotate"]
    assert np.mean(levels) == pytest.approx(20, abs=0.2)
    assert np.std(levels) == pytest.approx(2, abs=0.2)


def test_the_probability_is_that_of_each_operation():
    codes = RandAugment(num_ops=3, probability=0.5).draw(10_000, np.random.default_rng(0))
    unchanged = (codes <= 1).mean(axis=0)  # 1/14 of those that are done is the identity
    assert unchanged == pytest.approx([0.5 + 0.5 / 14] * 3, abs=0.03)


@pytest.mark.parametrize(
    ("pairs", "policy"), [(CIFAR10, v2.AutoAugmentPolicy.CIFAR10), (IMAGENET, v2.AutoAugmentPolicy.IMAGENET)]
)
def test_auto_augment_has_torchvisions_pairs(pairs: tuple, policy: v2.AutoAugmentPolicy):
    published = [tuple((name, p, level or 0) for name, p, level in pair) for pair in v2.AutoAugment(policy)._policies]
    assert list(pairs) == published


def test_auto_augment_draws_its_pairs_by_their_probabilities():
    pair = (("Rotate", 0.7, 2), ("Posterize", 0.3, 9))
    policy = AutoAugment([pair])
    steps = policy.steps(SIZE)
    first, second = policy.draw(20_000, np.random.default_rng(0)).T
    expected = torchvisions_steps(v2.AutoAugment(), [2], 10)
    assert {steps[code] for code in np.unique(first)} - {steps[0]} == {s for s in expected if s.operation == "Rotate"}
    assert [np.mean(first > 0), np.mean(second > 0)] == pytest.approx([0.7, 0.3], abs=0.02)
    assert {steps[code] for code in np.unique(second)} == {steps[0], operations.Step("Posterize", 4.0)}
