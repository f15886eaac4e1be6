"""What can be seen of CUDA graphs without a GPU; and with one, that they change nothing but the time."""

import pytest
import torch
from lightning.pytorch import seed_everything
from torch.nn import functional as F

from efficientconv.datasets import RandomImages
from efficientconv.errors import UserError
from efficientconv.layers.base import regularization_loss
from efficientconv.training.build import build_classifier, build_trainer
from efficientconv.training.cuda_graphs import GraphedLoss, require_graphs_possible
from efficientconv.training.lightning_patches import silence_lightning
from tests.training.conftest import resolved

ONE = {"devices": 1, "accumulate_grad_batches": 1}


@pytest.mark.parametrize(
    ("trainer", "on_cuda", "message"),
    [
        (ONE, False, "cuda_graphs=true: CUDA graphs need a CUDA device; false runs everywhere"),
        (ONE | {"devices": 2}, True, "needs trainer.devices=1"),
        (ONE | {"accumulate_grad_batches": 2}, True, "needs trainer.accumulate_grad_batches=1"),
    ],
)
def test_asked_for_where_they_cannot_be(trainer, on_cuda, message):
    with pytest.raises(UserError, match=message):
        require_graphs_possible(trainer, on_cuda)


def test_the_command_line_says_so_too():
    data = noise(images=20)
    with pytest.raises(UserError, match="cuda_graphs=true: CUDA graphs need a CUDA device"):
        build_classifier(resolved("cuda_graphs=true"), data)


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


class Recorded(GraphedLoss):
    """Takes the passes anew wherever a recording would be replayed, into the same outputs."""

    def _record(self, images, targets):
        outputs = [output.detach().clone() for output in self.loss(images, targets)]

        def replay(images, targets):
            for output, value in zip(outputs, self.loss(images, targets), strict=True):
                output.copy_(value.detach())
            return outputs

        return replay


def test_what_a_replay_returns_outlives_the_next_one():
    model = torch.nn.Flatten()
    graphed = Recorded(lambda images, targets: (images.sum(), targets.sum()), model)
    first = graphed(torch.ones(3, 1, 2, 2), torch.ones(3))
    graphed(torch.zeros(3, 1, 2, 2), torch.zeros(3))
    assert [value.item() for value in first] == [12, 3]
    assert [value.item() for value in graphed(torch.ones(2, 1, 2, 2), torch.ones(2))] == [8, 2]  # another shape


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
    assert graphed.loss.recorded is not None
    assert graphed.read_sums()[:2] == eager.read_sums()[:2] == (6, 48 * 5 + 13)
    tolerance = {"32-true": 2e-3, "bf16-mixed": 5e-2}[precision]
    for (name, value), other in zip(graphed.state_dict().items(), eager.state_dict().values(), strict=True):
        error = (value.double() - other.double()).norm() / (1e-6 + other.double().norm())
        assert error < tolerance, (name, float(error))
