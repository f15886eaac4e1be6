"""What can be seen of CUDA graphs without a GPU; and with one, that they change nothing but the time."""

import pytest
import torch
from lightning.pytorch import seed_everything
from torch.nn import functional as F

from efficientconv.datasets import RandomImages
from efficientconv.errors import UserError
from efficientconv.layers.base import regularization_loss
from efficientconv.training.build import build_classifier, build_trainer
from efficientconv.training.cuda_graphs import GraphedStep, use_cuda_graphs
from tests.training.conftest import resolved

ONE = {"devices": 1, "accumulate_grad_batches": 1}


@pytest.mark.parametrize(
    ("wanted", "trainer", "on_cuda", "expected"),
    [
        ("auto", ONE, True, True),
        ("auto", ONE, False, False),
        ("auto", ONE | {"devices": 2}, True, False),
        ("auto", ONE | {"accumulate_grad_batches": 2}, True, False),
        (True, ONE, True, True),
        (False, ONE, True, False),
    ],
)
def test_auto_takes_them_where_they_can_be(wanted, trainer, on_cuda, expected):
    assert use_cuda_graphs(wanted, trainer, on_cuda) is expected


@pytest.mark.parametrize(
    ("trainer", "on_cuda", "message"),
    [
        (ONE, False, "cuda_graphs=true: CUDA graphs need a CUDA device"),
        (ONE | {"devices": 2}, True, "need trainer.devices=1"),
        (ONE | {"accumulate_grad_batches": 2}, True, "need trainer.accumulate_grad_batches=1"),
    ],
)
def test_asked_for_where_they_cannot_be(trainer, on_cuda, message):
    with pytest.raises(UserError, match=message):
        use_cuda_graphs(True, trainer, on_cuda)


@pytest.mark.parametrize("soft", [False, True])
def test_the_loss_is_cross_entropy_plus_the_penalties(soft):
    config = resolved("conv=bsconv_s", "recipe.label_smoothing=0.1")
    classifier, _ = build_classifier(config, noise(images=20, image_size=16))
    images, targets = torch.rand(4, 3, 16, 16), torch.tensor([0, 1, 2, 3])
    targets = F.one_hot(targets, 10).float() if soft else targets
    loss, cross_entropy, correct, penalty = classifier.step(images, targets)
    logits = classifier.model(images)
    expected = F.cross_entropy(logits, targets, label_smoothing=0.1)
    torch.testing.assert_close(cross_entropy, expected)
    torch.testing.assert_close(penalty, 0.1 * regularization_loss(classifier.model))
    torch.testing.assert_close(loss, expected + penalty)
    assert correct == (logits.argmax(1) == torch.tensor([0, 1, 2, 3])).sum()
    assert [t.requires_grad for t in (loss, cross_entropy, correct, penalty)] == [True, False, False, False]


def noise(**settings):
    data = RandomImages(**({"batch_size": 10} | settings))
    data.setup()
    return data


def trained(conv, cuda_graphs, precision):
    config = resolved(
        f"conv={conv}",
        "model.depth=20",
        "model.width=1",
        f"cuda_graphs={cuda_graphs}",
        "trainer.accelerator=gpu",
        f"trainer.precision={precision}",
        "recipe.batch_size=48",
        "channels_last=true",
        "recipe.optimizer.lr=0.01",
    )
    seed_everything(0, verbose=False)
    data = noise(images=48 * 5 + 13, batch_size=48)
    classifier, _ = build_classifier(config, data)
    build_trainer(config, [], loggers=[]).fit(classifier, datamodule=data)
    return classifier


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("conv", ["standard", "bsconv_s", "bdrconv", "spconv", "doconv"])
def test_graphs_change_nothing_but_the_time(conv, precision):
    graphed, eager = trained(conv, "true", precision), trained(conv, "false", precision)
    assert isinstance(graphed.step, GraphedStep)
    assert graphed.step.replay is not None
    assert graphed.read_sums()[:2] == eager.read_sums()[:2] == (6, 48 * 5 + 13)
    tolerance = {"32-true": 2e-3, "bf16-mixed": 5e-2}[precision]
    for (name, value), other in zip(graphed.state_dict().items(), eager.state_dict().values(), strict=True):
        error = (value.double() - other.double()).norm() / (1e-6 + other.double().norm())
        assert error < tolerance, (name, float(error))
