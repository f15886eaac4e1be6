import pytest

from efficientconv.errors import UserError
from efficientconv.runs.safe_config import shipped_targets, trust


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.run",
        "builtins.exec",
        "torch.load",
        "torch.hub.load",
        "torch.utils.cpp_extension.load",
        "timm.create_model",
        "torchvision.models.get_model",
        "lightning.pytorch.Trainer",
        "lightning.pytorch.loggers.MLFlowLogger",
        "lightning.pytorch.callbacks.ModelCheckpoint",
        "torch",
        "torch.nn.modules.module.torch.load",
        "efficientconv.training.train.train",
        "hydra.utils.get_method",
        "nowhere",
        "torch.nowhere.Conv",
        17,
        None,
    ],
)
def test_refuses_targets_that_could_run_anything(target):
    with pytest.raises(UserError, match="which is not run from a stored configuration"):
        trust({"model": [{"deep": {"_target_": target}}]})


def test_keeps_what_the_project_ships_and_what_builds_networks():
    node = {
        "a": {"_target_": next(iter(shipped_targets())), "depth": 20},
        "b": {"_target_": "torch.nn.Conv2d"},
        "c": {"_target_": "torchvision.models.resnet.ResNet"},
        "d": {"_target_": "torch.optim.AdamW", "lr": 0.1},
    }
    assert trust(node) == node


def test_drops_arguments_that_load_something():
    node = {"_target_": "torch.nn.Identity", "pretrained": True, "checkpoint_path": "/x", "kwargs": {"weights": "V1"}}
    emptied = {"pretrained": None, "checkpoint_path": None, "kwargs": {"weights": None}}
    assert trust(node) == {"_target_": "torch.nn.Identity"} | emptied


def test_allow_names_a_package_and_the_message_says_so():
    node = {"_target_": "mypackage.Net"}
    with pytest.raises(UserError, match=r"allow=\[mypackage\]"):
        trust(node)
    assert trust(node, ["mypackage"]) == node
    with pytest.raises(UserError, match="mypackage2"):
        trust({"_target_": "mypackage2.Net"}, ["mypackage"])
