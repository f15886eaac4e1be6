import pytest
import torch

from efficientconv.errors import UserError
from efficientconv.runs.directory import RunDirectory
from efficientconv.training.train import train
from efficientconv.training.warm_start.freezing import freeze
from tests.training.conftest import resolved


def net():
    from efficientconv.backbones import cifar_resnet

    return cifar_resnet(10, depth=8)


def test_names_of_modules_and_patterns_of_names_freeze_what_is_below():
    model = net()
    freeze(model, ["stem", "stages.0.*", "*.bias"])
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert {name for name, _ in model.named_parameters() if name.startswith(("stem.", "stages.0."))} <= frozen
    assert "stages.1.0.conv1.conv.weight" not in frozen
    assert all(name in frozen for name, _ in model.named_parameters() if name.endswith(".bias"))
    norms = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.BatchNorm2d)}
    assert {name for name, norm in norms.items() if not norm.training} == {
        name for name in norms if name.startswith(("stem.", "stages.0."))
    }


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["stem", "stagse.0"], r"freeze=\[stagse.0\]: matches no part of this network; nearest: stages.0"),
        (["*"], r"freeze=\[\*\]: everything matches, and nothing would be trained"),
        (["[!c]*", "classifier"], r"freeze=\[\[!c\]\*,classifier\]: everything matches"),
    ],
)
def test_refuses_what_matches_nothing_or_everything(patterns, message):
    with pytest.raises(UserError, match=message):
        freeze(net(), patterns)


def test_a_frozen_part_is_the_same_after_training_and_its_norms_too(plain, tmp_path):
    run = RunDirectory(tmp_path / "run")
    train(resolved("conv=standard", f"init_from={plain.path}", "freeze=[stem,stages.0]", "trainer.max_epochs=1"), run)
    before, after = (torch.load(each.checkpoint("last"), weights_only=True)["state_dict"] for each in (plain, run))
    same = {key for key in before if torch.equal(before[key], after[key])}
    frozen = {key for key in before if key.startswith(("model.stem", "model.stages.0."))}
    assert frozen <= same
    assert any(key.endswith("running_mean") for key in frozen)
    assert not any(key.endswith("conv.weight") for key in same - frozen)
