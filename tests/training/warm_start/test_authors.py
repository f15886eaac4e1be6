"""Checkpoints of the authors' networks give the authors' logits; ``golden/README.md`` says how these were made."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from efficientconv.compose import create_model
from efficientconv.config_path import CONFIGS
from efficientconv.errors import UserError
from efficientconv.training.warm_start.authors import in_our_names
from efficientconv.training.warm_start.weights import load, mismatches, read_weights
from tests.training.warm_start.test_network import built_without_tiny

GOLDEN = {path.stem: path for path in sorted((Path(__file__).parent / "golden").glob("*.npz"))}
WRAPPED = {  # as the authors' scripts save
    "bsconv": lambda state: {"model_state_dict": state},
    "spconv": lambda state: {"epoch": 90, "state_dict": {f"module.{key}": value for key, value in state.items()}},
}


def network(overrides):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("train", overrides=["data=digits", *overrides])
    return create_model(instantiate(config.model), instantiate(config.conv, _convert_="all"), 10)[0]


def read(name):
    with np.load(GOLDEN[name]) as golden:
        lines = [line.partition(" ") for line in str(golden["state"]).splitlines()]
        shapes = {key: tuple(map(int, filter(None, shape.split(",")))) for key, _, shape in lines}
        return str(golden["overrides"]).split(), drawn(shapes), torch.from_numpy(golden["logits"])


def drawn(shapes):
    """Draw a state, key by key: statistics and weights of order 1, and what DO-Conv stores of the identity."""
    numbers = np.random.RandomState(0)  # whose numbers stay the same from version to version
    return {key: torch.from_numpy(value(key, shape, numbers).astype("float32")) for key, shape in shapes.items()}


def value(key, shape, numbers):
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape)
    if key.endswith("d_diag"):
        return np.tile(np.eye(*shape[1:]), (shape[0], 1, 1))
    if len(shape) == 1:
        is_scale = key.endswith(("weight", "running_var"))
        return numbers.uniform(0.5, 1.5, shape) if is_scale else numbers.uniform(-0.5, 0.5, shape)
    return numbers.standard_normal(shape) / np.prod(shape[1:]) ** 0.5


def images(channels):
    x = torch.from_numpy(np.random.RandomState(1).standard_normal((2, channels, 32, 32)))
    return x.expand(-1, 3, -1, -1)


@pytest.mark.parametrize("name", GOLDEN)
@torch.no_grad()
def test_their_checkpoint_gives_their_logits(name, tmp_path):
    overrides, state, logits = read(name)
    wrap = WRAPPED.get(name.partition("_")[0], dict)
    torch.save(wrap(state), tmp_path / "theirs.pth")
    model = network(overrides)
    load(model, read_weights(str(tmp_path / "theirs.pth")), 10)
    found = model.double().eval()(images(1 if "sample" in name else 3))
    torch.testing.assert_close(found, logits, rtol=1e-6, atol=1e-6)


def test_each_of_the_five_papers_has_a_network():
    assert {name.partition("_")[0] for name in GOLDEN} == {"bsconv", "spconv", "slimconv", "doconv", "bdrconv"}


def test_a_run_begins_with_their_weights_and_new_classes(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    overrides, state, _ = read("bsconv_preresnet")
    state = {key: value[:7] if key.startswith("classifier") else value for key, value in state.items()}
    torch.save({"model_state_dict": state}, tmp_path / "theirs.pth")
    built, _ = built_without_tiny(*overrides, f"init_from={tmp_path}/theirs.pth")
    theirs = state["backbone.stage2.unit1.conv2.conv.pw.weight"]
    assert torch.equal(built.model.get_submodule("stages.1.0.branch.conv2.pw").weight, theirs)
    assert "the classifier, classifier, is new: the weights have 7 classes, this data 10" in caplog.messages
    assert "the network with its new layers, as it is" in caplog.text
    assert f"init_from={tmp_path}/theirs.pth: the names of the authors' code, translated to ours" in caplog.messages


def test_the_network_before_the_replacement_takes_theirs_too(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    overrides, state, _ = read("bsconv_mobilenetv1")
    torch.save(state, tmp_path / "theirs.pth")
    built, _ = built_without_tiny(*overrides[:-1], "conv=bsconv_u", f"init_from={tmp_path}/theirs.pth")
    assert torch.equal(built.original.stem.conv.weight, state["backbone.init_conv.conv.weight"])
    assert "the network before the replacement" in caplog.text


def test_another_network_of_theirs_is_refused_in_the_names_of_the_nearer_one(tmp_path):
    overrides, state, _ = read("bsconv_preresnet")
    del state["backbone.stage1.unit1.conv1.conv.pw.weight"]
    torch.save(state, tmp_path / "theirs.pth")
    with pytest.raises(UserError) as caught:
        built_without_tiny(*overrides, f"init_from={tmp_path}/theirs.pth")
    assert str(caught.value) == (
        f"init_from={tmp_path}/theirs.pth: the weights are of another network "
        "(the authors' names, translated to ours): they lack stages.0.0.branch.conv1.conv.pw.weight"
    )


def test_bsconvs_imagenet_preresnet_has_a_scale_on_the_image_that_ours_lacks():
    shapes = {key: tuple(tensor.shape) for key, tensor in network(["model=preresnet10"]).state_dict().items()}
    theirs = {"backbone.data_bn.weight": (3,), "backbone.data_bn.bias": (3,)}
    theirs |= {"backbone.init_unit.conv.conv.weight": (64, 3, 7, 7), "backbone.init_unit.conv.bn.weight": (64,)}
    theirs |= {"backbone.final_activation.bn.weight": (512,), "classifier.conv.weight": (10, 512, 1, 1)}
    ours = in_our_names(network(["model=preresnet10"]), drawn(theirs))
    assert [key for key in ours if key not in shapes] == ["data_norm.weight", "data_norm.bias"]
    assert {key: tuple(ours[key].shape) for key in ours.keys() & shapes.keys()} == {
        key: shapes[key]
        for key in ("stem.conv.conv.weight", "stem.conv.norm.weight", "neck.norm.weight", "classifier.weight")
    }


@pytest.mark.parametrize("conv", ["odconv", "octconv", "slimconv"])
def test_what_no_authors_have_saved_comes_back_as_it_is(conv):
    state = {"layer1.0.conv2.gwc.weight": torch.zeros(1), "fc.weight": torch.ones(1), "0.weight": torch.ones(2)}
    model = network(["model=resnet50", "model.layers=[1,1,1,1]", f"conv={conv}"])
    found = in_our_names(model, state)
    assert found.keys() == state.keys()
    assert all(found[key] is state[key] for key in state)
    assert mismatches(model, state, 10) > 3
