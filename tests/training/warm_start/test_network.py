import json
import logging

import pytest
import torch

from efficientconv.errors import UserError
from efficientconv.training.build import open_data
from efficientconv.training.warm_start import reconstruction
from efficientconv.training.warm_start.network import as_stored, build_network
from tests.training.conftest import resolved

NEAR = "conv.initialize_from_replaced=true"


def built(*overrides):
    config = resolved(*overrides)
    data = open_data(config["data"])
    torch.manual_seed(0)
    return build_network(config, data), data


@torch.no_grad()
def logits(model, data):
    images, _ = next(iter(data.val_dataloader()))
    return model.eval()(images)


@pytest.mark.parametrize("conv", ["doconv", "acnet", "repvgg"])
def test_an_exact_layer_gives_the_original_to_the_digit(plain, conv):
    network, data = built(f"conv={conv}", f"init_from={plain.path}", NEAR)
    state = torch.load(plain.checkpoint("last"), weights_only=True)["state_dict"]
    found, wanted = logits(network.model, data), logits(network.original, data)
    assert torch.equal(network.original.state_dict()["stem.conv.weight"], state["model.stem.conv.weight"])
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert torch.equal(found.argmax(1), wanted.argmax(1))
    assert all(row.error < 1e-6 for row in network.report.replaced)


def test_what_is_not_replaced_keeps_its_weights_and_norms_behind_are_estimated_anew(plain):
    network, _ = built("conv=bsconv_u", f"init_from={plain.path}", NEAR)
    before, after = network.original.state_dict(), network.model.state_dict()
    shared = [key for key in before if key in after and "running" not in key and "batches" not in key]
    assert all(torch.equal(before[key], after[key]) for key in shared)
    means = [key for key in before if key.endswith("running_mean")]
    in_front = {key for key in means if torch.equal(before[key], after[key])}
    assert in_front == {"data_norm.running_mean"}  # the first convolution is replaced
    assert all(0 < row.error < 1 for row in network.report.replaced)
    assert json.loads(json.dumps(network.report.to_dict()))["replaced"][0]["error"] > 0


def test_near_the_original_is_nearer_than_anew(plain):
    near, data = built("conv=bsconv_u", f"init_from={plain.path}", NEAR)
    anew, _ = built("conv=bsconv_u", f"init_from={plain.path}")
    images, _ = next(iter(data.val_dataloader()))
    with torch.no_grad():
        wanted = near.original.stem.conv(images)
        near, anew = (float((each.model.stem.conv(images) - wanted).norm() / wanted.norm()) for each in (near, anew))
    assert near < min(anew, 1)


def test_on_data_layers_are_fitted_to_the_outputs_of_the_old_ones(plain, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(reconstruction, "STEPS", 30)
    fitted, _ = built("conv=bsconv_u", f"init_from={plain.path}", "conv.initialize_from_replaced=data")
    assert fitted.report.errors_of == "outputs"
    assert all(0 < row.error < 1 for row in fitted.report.replaced)
    assert "fitting 7 new layers to the outputs of the old ones on 143 images" in caplog.text


def test_layers_that_begin_anew_are_said(plain, caplog):
    network, _ = built("conv=bsconv_u", f"init_from={plain.path}")
    assert all(row.error is None for row in network.report.replaced)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [
        "the 7 new layers begin anew: the weights of what they replace are not used; "
        "conv.initialize_from_replaced=true lets them begin near those"
    ]


def test_a_run_with_the_same_convolution_gives_all_its_weights(trained, caplog):
    caplog.set_level(logging.INFO)
    network, _ = built(f"init_from={trained.path}", NEAR)
    state = torch.load(trained.checkpoint("last"), weights_only=True)["state_dict"]
    assert all(torch.equal(value, state[f"model.{key}"]) for key, value in network.model.state_dict().items())
    assert network.original is None
    assert "the network with its new layers, as it is" in caplog.text


def test_a_file_is_taken_by_what_it_fits(trained, plain):
    for run in (trained, plain):
        state = torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]
        torch.save({key: value for key, value in state.items() if key.startswith("model.")}, run.path / "bare.pt")
    whole, _ = built(f"init_from={trained.path}/bare.pt")
    assert whole.original is None
    before, _ = built(f"init_from={plain.path}/bare.pt")
    assert before.original is not None
    with pytest.raises(UserError, match=r"with its new layers; conv.initialize_from_replaced=false takes them as they"):
        built(f"init_from={trained.path}/bare.pt", NEAR)
    with pytest.raises(UserError, match=r"weights are of another network: they lack stem.conv.weight, stages"):
        built(f"init_from={trained.path}/bare.pt", NEAR, "conv=ghost")


def test_images_of_another_size_or_scale_are_said(plain, caplog):
    built("conv=standard", f"init_from={plain.path}", "recipe.image_size=24")
    size = plain.read_config()["data"]["image_size"]
    assert f"it was trained on images of {size} pixels, these have 24: recipe.image_size={size}" in caplog.text
    built("conv=standard", f"init_from={plain.path}", "recipe.normalize=false")
    assert "on pixels of mean 0 and spread 1, these are as they are: recipe.normalize=true" in caplog.text


def test_random_weights_are_nothing_to_begin_near():
    with pytest.raises(UserError, match="initialize_from_replaced: the replaced convolutions have random weights"):
        built(NEAR)


def test_networks_without_pretrained_weights_say_so():
    with pytest.raises(UserError, match="init_from=pretrained: there are no pretrained weights of this network"):
        built("init_from=pretrained")


@pytest.fixture
def cached_resnet18(tmp_path, monkeypatch):
    """Put weights of torchvision's name and size where it looks for them, so that nothing is downloaded."""
    from torchvision import models

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    torch.manual_seed(7)
    state = models.resnet18(num_classes=1000).state_dict()
    (tmp_path / "checkpoints").mkdir()
    torch.save(state, tmp_path / "checkpoints" / models.ResNet18_Weights.DEFAULT.url.rpartition("/")[2])
    return state


TORCHVISION = ("model=torchvision", "model.name=resnet18", "conv=doconv", "recipe.image_size=32")


@pytest.mark.parametrize("word", ["init_from=pretrained", "model.pretrained=true"])
def test_pretrained_weights_are_begun_near_with_a_new_classifier(cached_resnet18, word, caplog):
    caplog.set_level(logging.INFO)
    network, _ = built_without_tiny(*TORCHVISION, word, NEAR)
    assert torch.equal(network.original.layer1[0].conv1.weight, cached_resnet18["layer1.0.conv1.weight"])
    assert torch.equal(network.model.layer1[0].conv1.compose(), cached_resnet18["layer1.0.conv1.weight"])
    assert network.model.fc.out_features == 10
    assert "the classifier, fc, is new: the weights have 1000 classes, this data 10" in caplog.messages
    assert network.init_from["source"] == "pretrained"
    again, _ = built_without_tiny(*TORCHVISION, word, NEAR, seed=1)
    assert again.init_from == network.init_from


def built_without_tiny(*overrides, seed=0):
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from efficientconv.config_path import CONFIGS

    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        words = ["data=digits", "trainer.accelerator=cpu", *overrides]
        config = OmegaConf.to_container(compose("train", overrides=words), resolve=True)
    data = open_data(config["data"])
    torch.manual_seed(seed)
    return build_network(config, data), data


def test_a_stored_configuration_loads_nothing():
    config = resolved("init_from=gone.pt", NEAR, "+model.pretrained=true")
    found = as_stored(config)
    assert (found["init_from"], found["conv"]["initialize_from_replaced"], found["model"]["pretrained"]) == (
        None,
        False,
        None,
    )
    assert config["init_from"] == "gone.pt"
