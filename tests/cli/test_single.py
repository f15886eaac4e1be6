"""Hydra's flags and grammar, as every tool that does one thing has them."""

import pytest
import yaml

from efficientconv.cli.single import composed, plain_values


def test_cfg_shows_the_configuration_instead_of_running(command):
    told = command("profile", "model=resnet56", "--cfg", "job", "conv=bsconv_u")
    assert (told.status, told.stderr) == (0, "")
    shown = yaml.safe_load(told.stdout)
    assert shown["model"]["depth"] == 56
    assert shown.keys() == {"input_size", "classes", "depth", "json", "model", "conv"}
    told = command("profile", "-c", "job", "-p", "model.depth")
    assert told.stdout == "20\n"
    told = command("tables", "--cfg", "job", "--package", "tabels")
    assert told == (1, "", "--package tabels: there is no such key\n")


def test_resolve(command):
    shown = yaml.safe_load(command("bench", "step", "--cfg", "job", "--resolve", "recipe.max_epochs=7").stdout)
    assert (shown["action"], shown["trainer"]["max_epochs"]) == ("step", 7)


def test_config_dir_adds_options(command, tmp_path):
    folder = tmp_path / "my confs" / "conv"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("layer: null\nwhere: null\nunits: {}\n")
    told = command("profile", "--config-dir", "my confs", "conv=mine", "--cfg", "job", "-p", "conv")
    assert yaml.safe_load(told.stdout) == {"layer": None, "where": None, "units": {}}
    assert ", mine, " in command("profile", "--help", "--config-dir", "my confs").stdout
    told = command("profile", "--config-dir", "nowhere", "--help")
    assert (told.status, told.stderr.count("\n")) == (1, 1)
    assert told.stderr.startswith("--config-dir nowhere: there is no such folder (looked in /")


def test_a_tool_is_called_with_plain_values_the_choices_and_the_words():
    with composed("profile", ["conv=spconv", "depth=0"]) as config:
        values = plain_values(config)
    assert type(values["model"]) is dict
    assert values["choices"] == {"model": "resnet20", "conv": "spconv"}
    assert values["overrides"] == ["conv=spconv", "depth=0"]
    assert values["depth"] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["eval"], "run is missing: give it as run=<value>\n"),
        (["profile", "model=timm"], "model.name is missing: give it as model.name=<value>\n"),
        (["profile", "model=resnet5"], "model=resnet5: there is no such model; nearest first: resnet56, "),
        (["profile", "data=cifar10"], "data: there is no such key; nearest: "),
        (["profile", "recipe=x"], "recipe: there is no such key; nearest: "),
        (["bench", "step", "--steps", "3"], "--steps: there is no such flag; keys are given without dashes: steps=3\n"),
    ],
    ids=" ".join,
)
def test_a_mistake_gets_one_line(words, message, command):
    ended = command(*words)
    assert (ended.status, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)
    assert ended.stderr.startswith(message)


def test_profile_calls_the_network_by_the_words_that_build_it(command):
    told = command("profile", "conv=spconv", "input_size=[3,16,16]", "conv.layer.alpha=0.25", "depth=0")
    assert told.stdout.splitlines()[0] == "model=resnet20 conv=spconv conv.layer.alpha=0.25"
