import socket
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torchvision import models

from efficientconv.backbones import by_name
from efficientconv.backbones.by_name import timm_model, torchvision_model
from efficientconv.errors import UserError


@pytest.mark.parametrize(
    ("name", "parameters"), [("resnet18", 11_181_642), ("squeezenet1_1", 727_626), ("mobilenet_v2", 2_236_682)]
)
def test_torchvision_nets_get_the_number_of_classes(name, parameters, count):
    assert count("torchvision", 10, f"model.name={name}") == parameters


@pytest.mark.parametrize("name", ["resnet18", "resnet18.a1_in1k"])
def test_timm_nets_get_the_number_of_classes(name, count):
    assert count("timm", 10, f"model.name={name}") == 11_181_642


@pytest.mark.parametrize(("name", "size"), [("googlenet", 64), ("inception_v3", 80)])
def test_logits_come_alone(name, size):
    with torch.device("meta"):
        model = torchvision_model(7, name=name, kwargs={"init_weights": False}).train()
        assert model(torch.empty(2, 3, size, size)).shape == (2, 7)


def test_further_arguments(build):
    model = build("timm", 5, "model.name=vit_tiny_patch16_224", "model.kwargs={img_size: 32, patch_size: 4}")
    assert model(torch.randn(1, 3, 32, 32)).shape == (1, 5)
    model = build("torchvision", 5, "model.name=mobilenet_v3_small", "model.kwargs.reduced_tail=true")
    assert model.classifier[0].in_features == 288


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_name_is_asked_for(library, build):
    with pytest.raises(UserError, match=rf"^model.name is missing: which of the \d+ networks of {library}\?"):
        build(library, 10)


@pytest.mark.parametrize(
    ("make", "name", "message"),
    [
        (torchvision_model, "resnet5", "torchvision has no such network; the nearest of 80: resnet50, "),
        (torchvision_model, "resnet50.a1_in1k", "torchvision has no such network; the nearest of 80: resnet50, "),
        (timm_model, "resnet5", r"timm has no such network; the nearest of \d+: resnet50, "),
        (timm_model, "resnet18.a1_in2k", r"timm has no such network; the nearest of \d+: resnet18.a1_in1k, "),
    ],
)
def test_wrong_names_list_the_nearest(make, name, message):
    with pytest.raises(UserError, match=f"^model.name={name}: {message}"):
        make(10, name=name)


def test_nothing_is_fetched_by_name():
    with pytest.raises(UserError, match=r"^model.name=hf-hub:some/model: timm has no such network"):
        timm_model(10, name="hf-hub:some/model")


@pytest.mark.parametrize("make", [torchvision_model, timm_model])
def test_unknown_arguments_are_refused(make):
    with pytest.raises(UserError, match=r"^model.kwargs=\{'typo': 1\}: resnet18 does not take them: .*'typo'"):
        make(10, name="resnet18", kwargs={"typo": 1})


@pytest.mark.parametrize(("name", "argument"), [("convnext_tiny", "width_mult"), ("mobilenet_v3_small", "layer_scale")])
def test_unknown_arguments_are_not_swallowed(name, argument):
    with torch.device("meta"), pytest.raises(UserError, match=rf": {name} has no argument {argument}$"):
        torchvision_model(10, name=name, kwargs={argument: 1})


@pytest.mark.parametrize("make", [torchvision_model, timm_model])
@pytest.mark.parametrize("argument", ["weights", "checkpoint_path", "num_classes", "aux_logits"])
def test_reserved_arguments_are_refused(make, argument):
    with pytest.raises(UserError, match=rf"^model.kwargs.{argument}: cannot be set here; the data set num_classes"):
        make(10, name="resnet18", kwargs={argument: "x"})


@pytest.mark.parametrize(("name", "classifier"), [("resnet18", "fc"), ("squeezenet1_1", "classifier.1")])
def test_pretrained_torchvision_nets_get_a_new_classifier_for_other_classes(
    tmp_path, monkeypatch, caplog, name, classifier
):
    caplog.set_level("INFO")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    state = models.get_model(name).state_dict()
    torch.save(state, tmp_path / "checkpoints" / models.get_model_weights(name).DEFAULT.url.rpartition("/")[2])
    model = torchvision_model(10, name=name, pretrained=True)
    own = model.state_dict()
    assert model.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 10)
    assert {key for key in own if not torch.equal(own[key], state[key])} == {
        f"{classifier}.weight",
        f"{classifier}.bias",
    }
    assert caplog.messages == [f"the classifier, {classifier}, is new: the weights have 1000 classes, this data 10"]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """No server has a name, no weights are on disk; list the servers that were asked."""
    asked: list[str] = []

    def refuse(host: str, *args: object, **options: object) -> None:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return asked


@pytest.mark.parametrize(
    ("make", "server"), [(torchvision_model, "download.pytorch.org"), (timm_model, "huggingface.co")]
)
def test_pretrained_weights_without_a_network_fail_at_once(make, server, no_network, capfd):
    message = (
        rf"^model.pretrained=true: {server} cannot be reached \(.*Name or service not known\); model.pretrained=fa"
    )
    with pytest.raises(UserError, match=message):
        make(1000, name="resnet18", pretrained=True)
    assert no_network == [server]  # once
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("make", [torchvision_model, timm_model])
def test_a_download_that_fails_is_one_line(make, monkeypatch, no_network):
    def fail(source: str) -> None:
        raise URLError("the connection was reset\nby the peer")

    monkeypatch.setattr(by_name, "_require_answer", fail)
    with pytest.raises(
        UserError, match=r"^model.pretrained=true: .*the connection was reset; model.pretrained=false st"
    ):
        make(1000, name="resnet18", pretrained=True)


def test_weights_that_are_there_ask_nobody(no_network, tmp_path):
    weights = tmp_path / "checkpoints" / "resnet18-f37072fd.pth"
    weights.parent.mkdir()
    torch.save(torchvision_model(1000, name="resnet18").state_dict(), weights)
    torchvision_model(1000, name="resnet18", pretrained=True)
    assert no_network == []


def test_a_network_of_timm_without_weights():
    with pytest.raises(
        UserError, match=r"^model.pretrained=true: timm has no weights of densenet264d; give model.pretr"
    ):
        timm_model(10, name="densenet264d", pretrained=True)
