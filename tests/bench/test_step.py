import pytest
import torch
from lightning.pytorch import seed_everything

from efficientconv.bench import step
from efficientconv.bench.step import BARE, REAL, bare_step, measure_steps
from efficientconv.bench.tool import open_data
from efficientconv.errors import UserError
from efficientconv.training.build import build_classifier, build_trainer
from tests.bench.conftest import configuration

pytestmark = pytest.mark.filterwarnings("ignore")  # what silence_lightning keeps from users

TINY = ["model=cifar_resnet", "model.depth=8", "model.width=0.25", "conv=bsconv_s", "conv.layer.min_mid_channels=2"]
TINY += ["data.images=40", "data.image_size=16", "recipe.batch_size=8", "recipe.label_smoothing=0.1"]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_bare_loop_trains_to_the_weights_of_the_real_one(precision):
    config = configuration(
        *TINY, f"trainer.precision={precision}", "trainer.max_epochs=2", "trainer.limit_val_batches=0"
    )
    data = open_data(config["data"])
    weights = []
    for loop in (real, bare):
        seed_everything(0, verbose=False)
        classifier, _ = build_classifier(config, data)
        loop(classifier, config)
        weights.append(classifier.model.state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-4, atol=1e-5)


def real(classifier, config):
    build_trainer(config, [], loggers=[]).fit(classifier, datamodule=open_data(config["data"]))


def bare(classifier, config):
    take = bare_step(classifier, config["trainer"]["precision"], total_steps=10)
    loader = open_data(config["data"]).train_dataloader()
    for _ in range(2):
        for images, labels in loader:
            take(images, labels)


def test_measures_both_loops_in_turn(monkeypatch):
    config = configuration(*TINY)
    taken = []
    take = step.Turns._bare_steps
    monkeypatch.setattr(step.Turns, "_bare_steps", lambda turns: taken.append(take(turns)) or taken[-1])
    measured = measure_steps(config, open_data(config["data"]), steps=3, rounds=2)
    assert taken == [24, 24, 24]  # images; the first time does not count
    assert measured.steps == 3
    assert measured.rounds.rates.keys() == {REAL, BARE}
    figures = measured.to_dict()
    for name in (REAL, BARE):
        assert len(figures["loops"][name]["rounds"]) == 2
        assert figures["loops"][name]["images_per_second"] > 0
    assert figures["loops"][BARE]["ratio"] == 1.0
    seconds = (
        [24 / rate for rate in figures["loops"][REAL]["rounds"]],
        [24 / r for r in figures["loops"][BARE]["rounds"]],
    )
    overheads = [1e6 * (a - b) / 3 for a, b in zip(*seconds, strict=True)]
    assert figures["overhead_microseconds"]["rounds"] == pytest.approx(overheads, abs=1e-3)
    assert all(end > 0 for end in figures["epoch_end_milliseconds"]["rounds"])


def test_at_most_an_epoch_in_a_round():
    config = configuration(*TINY)
    assert measure_steps(config, open_data(config["data"]), steps=100, rounds=1).steps == 5


def test_a_precision_that_the_bare_loop_does_not_have():
    config = configuration(*TINY, "trainer.precision=64-true")
    with pytest.raises(UserError, match=r"trainer\.precision=64-true: bench step knows 32-true, bf16-mixed, 16-mixed"):
        measure_steps(config, open_data(config["data"]), steps=1, rounds=1)
