import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import InstantiationException, OverrideParseException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue

from efficientconv.errors import UserError, nearest_first
from efficientconv.messages import one_line


def test_a_message_of_ours_is_found_under_what_others_wrapped_around_it():
    wrapped = RuntimeError("wrapped")
    wrapped.__cause__ = UserError("give\n  a root")
    assert one_line(wrapped) == "give a root"


def test_an_error_of_a_constructor_names_its_place_in_the_configuration():
    config = OmegaConf.create({"model": {"_target_": "torch.nn.Conv2d", "in_channels": 3, "out_channels": 4}})
    with pytest.raises(InstantiationException) as caught:
        instantiate(config)
    assert one_line(caught.value).startswith("model: TypeError: ")
    config.model.update({"kernel_size": 3, "groups": 2})
    with pytest.raises(InstantiationException) as caught:
        instantiate(config)
    assert one_line(caught.value) == "model: in_channels must be divisible by groups"


def test_missing_values_and_files():
    config = OmegaConf.create({"model": {"name": "???"}})
    with pytest.raises(MissingMandatoryValue) as caught:
        _ = config.model.name
    assert one_line(caught.value) == "model.name is missing: give it as model.name=<value>"
    assert one_line(OSError(28, "No space left on device", "out/last.ckpt")) == "out/last.ckpt: No space left on device"


def test_what_nobody_foresaw_says_how_to_see_more():
    assert one_line(KeyError("x")) == "KeyError: 'x' (HYDRA_FULL_ERROR=1 shows where)"


def test_nearest_first():
    assert nearest_first("resnet5", ["vgg16", "resnet56", "wrn28"]).startswith("resnet56, ")
    assert nearest_first("depth", ("dense", "depthwise", "grouped")) == "depthwise, dense, grouped"
    assert nearest_first("depth", ("dense", "depthwise", "grouped"), most=1) == "depthwise"
    assert nearest_first("x", []) == ""


def test_a_word_without_a_value_says_how_values_are_given():
    with pytest.raises(OverrideParseException) as caught:
        OverridesParser.create().parse_overrides(["resnet56"])
    assert (
        one_line(caught.value)
        == "resnet56: values are given as key=value, and one with spaces as 'key=\"a b\"'; --help lists the keys"
    )


@pytest.mark.parametrize("value", ['a (1)/b "c"', "my runs (old)", "a,b(", "[1"])
def test_a_word_that_is_not_of_hydras_grammar_is_shown_as_it_would_be_read(value):
    with pytest.raises(OverrideParseException) as caught:
        OverridesParser.create().parse_overrides([f"run={value}"])
    told = one_line(caught.value)
    assert told.startswith(f"run={value}: cannot be read; a text with spaces or brackets needs quotes: 'run=")
    (word,) = shlex.split(told.rpartition("needs quotes: ")[2])
    assert OverridesParser.create().parse_overrides([word])[0].value() == value


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "torch.optim.Adm",
            "recipe.optimizer._target_=torch.optim.Adm: there is no Adm in torch.optim; nearest first: Ad",
        ),
        (
            "separable.Conv",
            "recipe.optimizer._target_=separable.Conv: No module named 'separable'; a module of your own",
        ),
    ],
)
def test_a_target_that_is_not_there(target, message):
    with pytest.raises(InstantiationException) as caught:
        instantiate({"recipe": {"optimizer": {"_target_": target, "_partial_": True}}})
    assert one_line(caught.value).startswith(message)


def test_a_module_that_fails_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "failing_layers.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InstantiationException) as caught:
        instantiate({"conv": {"layer": {"_target_": "failing_layers.Mine"}}})
    told = "ZeroDivisionError: division by zero (HYDRA_FULL_ERROR=1 shows where)"
    expected = f"conv.layer._target_=failing_layers.Mine: failing_layers cannot be imported: {told}"
    assert one_line(caught.value) == expected
