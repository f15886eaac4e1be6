from hydra.core.override_parser.overrides_parser import OverridesParser

from efficientconv.report.words import hydra_words


def values(*words):
    parsed = OverridesParser.create().parse_overrides(hydra_words(words))
    return {override.key_or_group: override.value() for override in parsed}


def test_directories_are_the_words_without_a_key():
    assert values("outputs/a, b", "outputs/c") == {"places": ["outputs/a, b", "outputs/c"]}


def test_lists_and_paths_need_no_quotes():
    assert values("a", "group_by=conv,model", "save=my table.tex") == {
        "group_by": ["conv", "model"],
        "save": "my table.tex",
        "places": ["a"],
    }
    assert values("group_by=null", "save=null") == {"group_by": None, "save": None}
