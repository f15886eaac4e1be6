import pytest
import torch

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
    model = build("timm", 5, "model.name=vit_tiny_patch16_224", "+model.kwargs={img_size:32,patch_size:4}")
    assert model(torch.randn(1, 3, 32, 32)).shape == (1, 5)
    model = build("torchvision", 5, "model.name=mobilenet_v3_small", "+model.kwargs.reduced_tail=true")
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


def test_pretrained_torchvision_nets_have_their_own_classes():
    with pytest.raises(UserError, match=r"^model.pretrained=true: torchvision's weights have 1000 classes, not 10"):
        torchvision_model(10, name="resnet18", pretrained=True)
