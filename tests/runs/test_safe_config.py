import pytest

from efficientconv.errors import UserError
from efficientconv.runs.safe_config import loading_arguments, packages_to_allow, safe_config, shipped_targets


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
        safe_config({"model": [{"deep": {"_target_": target}}]})


def test_keeps_what_the_project_ships_and_what_builds_networks():
    node = {
        "a": {"_target_": next(iter(shipped_targets())), "depth": 20},
        "b": {"_target_": "torch.nn.Conv2d"},
        "c": {"_target_": "torchvision.models.resnet.ResNet"},
        "d": {"_target_": "torch.optim.AdamW", "lr": 0.1},
    }
    assert safe_config(node) == node


def test_drops_arguments_that_load_something():
    node = {"_target_": "torch.nn.Identity", "pretrained": True, "checkpoint_path": "/x", "kwargs": {"weights": "V1"}}
    emptied = {"pretrained": None, "checkpoint_path": None, "kwargs": {"weights": None}}
    assert safe_config(node) == {"_target_": "torch.nn.Identity"} | emptied


def test_allow_names_a_package_and_the_message_says_so():
    node = {"_target_": "mypackage.Net"}
    with pytest.raises(UserError, match=r"allow=\[mypackage\]"):
        safe_config(node)
    assert safe_config(node, ["mypackage"]) == node
    with pytest.raises(UserError, match="mypackage2"):
        safe_config({"_target_": "mypackage2.Net"}, ["mypackage"])


def test_lists_what_a_configuration_loads():
    node = {"a": {"pretrained": True, "kwargs": [{"weights": "V1"}, {"weights": None}]}, "pretrained": False}
    assert loading_arguments(node) == ["a.pretrained=True", "a.kwargs.0.weights=V1"]


def test_lists_what_must_be_allowed_once_a_configuration_is_stored():
    node = {"model": {"_target_": "mine.Net"}, "data": [{"_target_": "other.Set"}, {"_target_": "torch.nn.Identity"}]}
    assert packages_to_allow(node) == ["mine", "other"]
    assert packages_to_allow({"_target_": "efficientconv.datasets.Digits"}) == []
