import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from efficientconv.errors import UserError
from efficientconv.report.words import hydra_words


def values(*words):
    parsed = OverridesParser.create().parse_overrides([w for w in hydra_words(words) if "=" in w])
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


def test_flags_and_their_values_are_hydra_s():
    assert hydra_words(["--help"]) == ["--help"]
    assert hydra_words(["--cfg", "job", "a"]) == ["--cfg", "job", 'places=["a"]']


@pytest.mark.parametrize("flag", ["-m", "--multirun", "--multi"])
def test_several_jobs_are_refused(flag):
    with pytest.raises(UserError, match=rf"^{flag}: efficientconv report is one job; it takes several directories$"):
        hydra_words(["a", flag])
