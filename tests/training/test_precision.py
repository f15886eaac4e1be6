"""Every convolution under each precision, and what a training step must not do: wait for the device."""

import math

import pytest
import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch import Callback, seed_everything
from omegaconf import OmegaConf
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from efficientconv.bench.tool import open_data
from efficientconv.config_path import CONFIGS
from efficientconv.errors import UserError
from efficientconv.layers.base import regularization_loss
from efficientconv.training.build import build_classifier, build_trainer
from efficientconv.training.precision import require_possible, resolve_precision
from efficientconv.training.progress import Monitor

pytestmark = pytest.mark.filterwarnings("ignore")  # what silence_lightning keeps from users

CONVS = sorted(file.stem for file in (CONFIGS / "conv").glob("*.yaml"))
SMALL = ["data=random", "data.images=20", "data.image_size=16", "recipe.batch_size=4", "trainer.max_epochs=1"]
NETWORK = ["model=cifar_resnet", "model.depth=8"]
OWN = {"slimconv": ["conv.layer.restore_width=true"]}  # blocks of this network have no 1×1 behind


def configuration(*overrides):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        composed = compose("train", overrides=[*SMALL, "trainer.limit_val_batches=0", *overrides])
    return OmegaConf.to_container(composed, resolve=True)


def fit(*overrides, callbacks=()):
    """Train the network that the overrides describe; return it, its weights before, and the trainer."""
    config = configuration(*overrides)
    data = open_data(config["data"])
    seed_everything(config["seed"], verbose=False)
    classifier, report = build_classifier(config, data)
    assert report.replaced or "conv=standard" in overrides
    before = {name: value.clone() for name, value in classifier.named_parameters()}
    trainer = build_trainer(config, list(callbacks), loggers=[])
    trainer.fit(classifier, datamodule=data)
    return classifier, before, trainer


def assert_trained(classifier, before):
    sums = classifier.read_sums()
    assert (sums.steps, sums.finite_steps) == (5, 5)
    for name, value in classifier.named_parameters():
        assert value.dtype == torch.float32
        assert torch.isfinite(value).all(), name
        assert not torch.equal(value.cpu(), before[name]), name


@pytest.mark.parametrize("conv", CONVS)
def test_every_convolution_trains_in_bfloat16(conv):
    classifier, before, _ = fit(
        *NETWORK, f"conv={conv}", *OWN.get(conv, []), "trainer.accelerator=cpu", "trainer.precision=bf16-mixed"
    )
    assert_trained(classifier, before)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed", "32-true"])
@pytest.mark.parametrize("conv", CONVS)
def test_every_convolution_trains_on_a_gpu(conv, precision):
    classifier, before, _ = fit(
        *NETWORK, f"conv={conv}", *OWN.get(conv, []), "trainer.accelerator=gpu", f"trainer.precision={precision}"
    )
    assert_trained(classifier, before)


class Rates(Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, *args):
        self.seen.append((trainer.global_step, trainer.optimizers[0].param_groups[0]["lr"]))


def test_the_schedule_counts_steps_of_the_optimizer_when_gradients_are_accumulated():
    rates = Rates()
    accumulated = ["trainer.accumulate_grad_batches=2", "trainer.max_epochs=2", "recipe.schedule.milestones=[0.5]"]
    classifier, _, trainer = fit("conv=standard", *NETWORK, "trainer.accelerator=cpu", *accumulated, callbacks=[rates])
    assert trainer.global_step == 2 * math.ceil(5 / 2)
    assert [step for step, _ in rates.seen] == [0, 1, 1, 2, 3, 3, 4, 4, 5, 6]
    assert [rate for step, rate in rates.seen if step < 3] == [0.1] * 4
    assert [rate for step, rate in rates.seen if step >= 3] == [pytest.approx(0.01)] * 6
    assert (classifier.read_sums().steps, classifier.read_sums().images) == (5, 20)


def test_accumulated_gradients_are_those_of_the_larger_batch_and_clipped_as_one():
    common = ["model=lenet_doconv_sample", "conv=standard", "trainer.accelerator=cpu", "trainer.gradient_clip_val=0.01"]
    small, before, _ = fit(*common, "recipe.batch_size=5", "trainer.accumulate_grad_batches=2")
    large, _, _ = fit(*common, "recipe.batch_size=10")
    for (name, value), other in zip(small.named_parameters(), large.parameters(), strict=True):
        torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-7)
        assert (value - before[name]).norm() <= 0.1 * 0.01 * (
            1 + 1.9
        ) * 1.1  # lr × norm × momentum's two steps, and weight decay


class Transfers(TorchDispatchMode):
    """Counts the operations that bring a number from the device to Python."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


class Between(Callback):
    """Counts between two steps of one logging interval."""

    def __init__(self, enter, leave):
        self.enter, self.leave = enter, leave

    def on_train_batch_end(self, trainer, *args):
        {1: self.enter, 4: self.leave}.get(trainer.global_step, lambda: None)()


def test_no_number_leaves_the_device_between_logging_intervals():
    mode = Transfers()
    between = Between(mode.__enter__, lambda: mode.__exit__(None, None, None))
    words = [*NETWORK, "conv=bsconv_s", "trainer.accelerator=cpu", "trainer.precision=bf16-mixed"]
    fit(*words, callbacks=[Monitor(every_n_steps=5, show=False), between])
    assert mode.count == 0
    with mode:
        torch.ones(()).item()
    assert mode.count == 1


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])  # 16-mixed asks after each step whether it overflowed
def test_nothing_waits_for_a_gpu_between_logging_intervals(precision):
    def watch(mode):
        return lambda: torch.cuda.set_sync_debug_mode(mode)

    words = [*NETWORK, "conv=bsconv_s", "trainer.accelerator=gpu", f"trainer.precision={precision}"]
    try:
        fit(*words, callbacks=[Monitor(every_n_steps=5, show=False), Between(watch("error"), watch("default"))])
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("conv", ["bsconv_s", "doconv", "ghost"])
def test_the_training_loss_is_one_graph(conv):
    config = configuration("model=lenet_doconv_sample", f"conv={conv}", "trainer.accelerator=cpu")
    data = open_data(config["data"])
    classifier, _ = build_classifier(config, data)
    images, labels = next(iter(data.train_dataloader()))

    def loss(images, labels):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return F.cross_entropy(classifier(images), labels) + regularization_loss(classifier.model)

    expected = loss(images, labels)
    found = torch.compile(loss, fullgraph=True, backend="aot_eager")(images, labels)
    found.backward()
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)
    assert all(parameter.grad is not None for parameter in classifier.parameters())


def test_automatic_precision_is_float32_on_the_cpu():
    assert resolve_precision("auto", "cpu") == "32-true"
    assert resolve_precision("bf16-mixed", "cpu") == "bf16-mixed"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"precision": "16-mixed"}, "trainer.precision=16-mixed: float16 needs a CUDA device; bf16-mixed runs everyw"),
        ({"sync_batchnorm": True}, "trainer.sync_batchnorm=true: torch has it for CUDA devices only"),
    ],
)
def test_refuses_what_the_cpu_cannot_do(setting, message):
    possible = {"accelerator": "cpu", "precision": "auto", "sync_batchnorm": False}
    require_possible(possible)
    with pytest.raises(UserError, match=message):
        require_possible(possible | setting)
