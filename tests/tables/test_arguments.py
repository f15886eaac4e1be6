import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from efficientconv.tables.arguments import split_arguments
from efficientconv.tables.load.files import load_table, table_names


def value_of(word):
    """What Hydra reads of a word of the tool."""
    (own,), _ = split_arguments([word])
    (parsed,) = OverridesParser.create().parse_overrides([own])
    return parsed.value()


def test_words_are_parted():
    words = ["table=bsconv/*", "row=a", "recipe=cosine_cifar", "run=true", "trainer.max_epochs=1", "hydra.verbose=true"]
    own = ['tables=["bsconv/*"]', 'row="a"', "run=true", "hydra.verbose=true"]
    assert split_arguments(words) == (own, ["recipe=cosine_cifar", "trainer.max_epochs=1"])
    assert split_arguments(["results=a", "save=b.csv", "format=csv"])[1] == []


def test_words_without_a_key_are_tables():
    assert split_arguments(["spconv/cifar10_vgg16"]) == (['tables=["spconv/cifar10_vgg16"]'], [])
    assert split_arguments(["spconv", "run=true", "bsconv"])[0] == ["run=true", 'tables=["spconv","bsconv"]']


def test_several_tables_stand_between_commas():
    assert value_of("table=bsconv,spconv/*") == ["bsconv", "spconv/*"]
    assert value_of("table=[bsconv,spconv/*]") == ["bsconv", "spconv/*"]
    assert value_of("results=a b,c") == ["a b", "c"]
    assert value_of('results=["a,b",c]') == ["a,b", "c"]


def test_every_name_can_be_given():
    for name in table_names():
        assert value_of(f"table={name}") == [name]
        for row in load_table(name).rows:
            assert value_of(f"row={row.name}") == row.name


@pytest.mark.parametrize("text", ['"a"', "'a'"])
def test_quotes_that_were_needed_once_still_do(text):
    assert value_of(f"row={text}") == "a"


@pytest.mark.parametrize("text", ["", 'a"b', "a\\b", "a\\", 'a\\"b', "a'b", "${x}", "[a]", "null", " a: {b}\\\\", '"'])
def test_any_text_is_read_as_it_is(text):
    assert value_of(f"row={text}") == text
    assert value_of(f"save={text}") == text
