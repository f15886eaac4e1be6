import hashlib
import logging

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from efficientconv.errors import UserError
from efficientconv.training.warm_start.weights import Weights, load, mismatches, network_state, read_weights, sha256_of


def net(classes=3, width=4):
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Flatten(), nn.Linear(width, classes))


def of(state, source="other.pt"):
    return Weights(source, "file", dict(state), "0" * 64)


def test_a_run_gives_its_last_weights_and_the_checksum_of_their_file(plain):
    found = read_weights(str(plain.path))
    state = torch.load(plain.checkpoint("last"), weights_only=True)["state_dict"]
    assert found.which == "last"
    assert found.sha256 == hashlib.sha256(plain.checkpoint("last").read_bytes()).hexdigest()
    assert found.to_dict() == {"source": str(plain.path), "weights": "last", "sha256": found.sha256}
    assert found.state.keys() == {key.removeprefix("model.") for key in state if key.startswith("model.")}
    best = read_weights(str(plain.checkpoint("best")))
    assert best.which == "file"
    assert best.state.keys() == found.state.keys()


@pytest.mark.parametrize("name", ["bare.pt", "bare.pth", "bare.safetensors"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_bare_states_are_read_with_or_without_the_prefix_of_a_wrapper(tmp_path, name, prefix):
    state = {prefix + key: value for key, value in net().state_dict().items()}
    save = save_file if name.endswith("safetensors") else torch.save
    save(state, tmp_path / name)
    found = read_weights(str(tmp_path / name)).state
    model = net()
    load(model, of(found), 3)
    assert all(torch.equal(value, state[prefix + key]) for key, value in model.state_dict().items())


def test_a_network_whose_own_module_is_called_model_keeps_its_keys():
    state = {"model.weight": torch.zeros(1), "head.weight": torch.zeros(1)}
    assert network_state(state, "x").keys() == state.keys()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3}, "holds no tensors by name: a state_dict of a network is needed"),
        ([torch.zeros(1)], "holds no dictionary, but a list"),
        ({"model": net()}, "holds more than tensors and plain values, and was not loaded"),
    ],
)
def test_refuses_files_without_a_state(tmp_path, content, message):
    torch.save(content, tmp_path / "file.pt")
    with pytest.raises(UserError, match=message):
        read_weights(str(tmp_path / "file.pt"))


def test_refuses_what_is_not_there_or_damaged(tmp_path):
    with pytest.raises(UserError, match="init_from=nowhere: there is no such run directory or file"):
        read_weights("nowhere")
    with pytest.raises(UserError, match=r"is not a run directory: it has no config.yaml"):
        read_weights(str(tmp_path))
    (tmp_path / "cut.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"cut.safetensors is no whole file of safetensors \("):
        read_weights(str(tmp_path / "cut.safetensors"))


def test_another_number_of_classes_makes_the_classifier_new_and_says_so(caplog):
    caplog.set_level(logging.INFO)
    model, other = net(classes=5), net(classes=3)
    before = model[3].weight.clone()
    load(model, of(other.state_dict()), 5)
    assert torch.equal(model[0].weight, other[0].weight)
    assert torch.equal(model[3].weight, before)
    assert caplog.messages == ["the classifier, 3, is new: the weights have 3 classes, this data 5"]


def test_weights_of_another_network_are_refused_with_the_first_five_keys():
    wide = {f"block{i}.weight": torch.zeros(1) for i in range(7)}
    with pytest.raises(UserError) as caught:
        load(net(), of(wide), 3)
    assert str(caught.value) == (
        "init_from=other.pt: the weights are of another network: "
        "they lack 0.weight, 0.bias, 1.weight, 1.bias, 1.running_mean and 3 more; the network lacks "
        "block0.weight, block1.weight, block2.weight, block3.weight, block4.weight and 2 more"
    )
    with pytest.raises(UserError, match=r"of another shape are 0.weight \(8, 3, 3, 3\), not \(4, 3, 3, 3\), 0.bias"):
        load(net(), of(net(width=8).state_dict()), 3)


def test_counts_mismatches_but_for_the_classifier_and_the_counters_of_old_files():
    state = {key: value for key, value in net(classes=9).state_dict().items() if "num_batches" not in key}
    assert mismatches(net(classes=3), state, 3) == 0
    assert mismatches(net(width=8), state, 3) == 8  # all but the counter: of other shapes, the classifier's too
    assert mismatches(net(classes=3), {**state, "a": torch.zeros(1)}, 3) == 1


def test_a_checksum_depends_on_values_and_names():
    state = {"a": torch.ones(2), "b": torch.zeros(2, dtype=torch.int64)}
    assert sha256_of(state) == sha256_of(dict(reversed(state.items())))
    assert sha256_of(state) != sha256_of({"a": torch.zeros(2), "b": state["b"]})
    assert sha256_of(state) != sha256_of({"c": state["a"], "b": state["b"]})
