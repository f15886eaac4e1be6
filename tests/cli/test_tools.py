"""Every tool has a line, and examples that compose with the configuration that they are for."""

import shlex
from pkgutil import resolve_name

import pytest

from efficientconv.cli import main
from efficientconv.cli.flags import single_parser
from efficientconv.cli.single import composed
from efficientconv.cli.tools import TOOLS
from efficientconv.config_path import CONFIGS
from efficientconv.tables.measure.sweep import jobs

FRONT = {name: ["efficientconv", name] for name in TOOLS} | {
    "train": ["python", "train.py"],
    "eval": ["python", "eval.py"],
}
EXAMPLES = [(name, example) for name, tool in TOOLS.items() for example in tool.examples]


def test_every_root_configuration_is_a_tool():
    assert {file.stem for file in CONFIGS.glob("*.yaml")} == set(TOOLS)


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=[example for _, example in EXAMPLES])
def test_examples_compose(name, example):
    front, words = FRONT[name], shlex.split(example)
    assert words[: len(front)] == front
    told, _ = single_parser().parse_known_intermixed_args(words[len(front) :])
    for job in jobs(TOOLS[name].words(told.words)):
        with composed(name, job) as config:
            assert config.hydra.overrides.task == list(job)


@pytest.mark.parametrize("tool", TOOLS.values(), ids=list(TOOLS))
def test_the_function_is_there(tool):
    assert callable(resolve_name(tool.function))


@pytest.mark.parametrize("name", TOOLS)
def test_help_begins_with_a_line_and_three_examples(name, command):
    told = command(name, "--help")
    assert (told.status, told.stderr) == (0, "")
    summary, empty, *examples = told.stdout.splitlines()[:5]
    assert (summary, empty) == (TOOLS[name].summary, "")
    assert examples == [f"  {example}" for example in TOOLS[name].examples]


@pytest.mark.parametrize(("words", "status"), [(["--help"], 0), ([], 2)])
def test_the_list_of_tools(words, status, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["efficientconv", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == status
    told = capsys.readouterr().out
    for name, tool in TOOLS.items():
        assert f"  {name:{max(map(len, TOOLS))}}  {tool.summary}\n" in told


def test_an_unknown_tool(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["efficientconv", "trian"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("efficientconv: there is no tool 'trian'; the tools are train, eval")
