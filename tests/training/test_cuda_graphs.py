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
from efficientconv.training.lightning_patches import silence_lightning
from tests.training.conftest import resolved

ONE = {"devices": 1, "accumulate_grad_batches": 1, "gradient_clip_val": None, "precision": "auto"}


@pytest.mark.parametrize(
    ("wanted", "trainer", "on_cuda", "expected"),
    [
        ("auto", ONE, True, True),
        ("auto", ONE, False, False),
        ("auto", ONE | {"devices": 2}, True, False),
        ("auto", ONE | {"accumulate_grad_batches": 2}, True, False),
        ("auto", ONE | {"gradient_clip_val": 1.0}, True, False),
        ("auto", ONE | {"precision": "16-mixed"}, True, False),
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
        (ONE | {"gradient_clip_val": 0.5}, True, "need trainer.gradient_clip_val=null"),
        (ONE | {"precision": "16-mixed"}, True, "need another trainer.precision than 16-mixed"),
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
    loss, cross_entropy, correct, penalty = classifier.loss(images, targets)
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


class Replayed(GraphedStep):
    """A step that is taken anew wherever a recorded one would be replayed."""

    def _record(self, images, targets):
        self.images, self.targets = images.clone(), targets.clone()
        return "recorded"

    def __call__(self, images, targets):
        self.images.copy_(images)
        self.targets.copy_(targets)
        return self._whole_step()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_lightning_leaves_a_step_that_was_replayed_alone(precision, monkeypatch):
    monkeypatch.setattr("efficientconv.training.classifier.GraphedStep", Replayed)
    silence_lightning()
    weights = []
    for graphs in (False, True):
        config = resolved("trainer.max_epochs=2", f"trainer.precision={precision}", "recipe.schedule.milestones=[0.5]")
        seed_everything(0, verbose=False)
        data = noise(images=43)
        classifier, _ = build_classifier(config, data)
        classifier.cuda_graphs = graphs
        trainer = build_trainer(config, [], loggers=[])
        trainer.fit(classifier, datamodule=data)
        assert trainer.global_step == 10
        assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.01)
        assert classifier.read_sums()[:2] == (5, 43)
        weights.append(classifier.state_dict())
    assert all(torch.equal(value, other) for value, other in zip(*map(dict.values, weights), strict=True))


class Reluctant(GraphedStep):
    def _record(self, images, targets):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")


def test_a_network_that_cannot_be_recorded_trains_without(monkeypatch, caplog):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    step = Reluctant(lambda images, targets: (), model, torch.optim.SGD(model.parameters(), lr=0.1))
    images, targets = torch.zeros(3, 1, 2, 2), torch.zeros(3, dtype=torch.int64)
    assert [step.takes(images, targets) for _ in range(4)] == [False] * 4
    assert [record.getMessage() for record in caplog.records] == [
        "training goes on without CUDA graphs: operation not permitted when stream is capturing"
    ]


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
    silence_lightning()
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
    assert graphed._graphed.graph is not None
    assert eager._graphed is None
    assert graphed.read_sums()[:2] == eager.read_sums()[:2] == (6, 48 * 5 + 13)
    tolerance = {"32-true": 2e-3, "bf16-mixed": 5e-2}[precision]
    for (name, value), other in zip(graphed.state_dict().items(), eager.state_dict().values(), strict=True):
        error = (value.double() - other.double()).norm() / (1e-6 + other.double().norm())
        assert error < tolerance, (name, float(error))
