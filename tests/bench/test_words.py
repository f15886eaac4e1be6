import pytest

from efficientconv.bench.words import hydra_words
from efficientconv.config_path import CONFIGS
from efficientconv.errors import UserError


def test_the_first_word_is_the_action_and_further_ones_are_files():
    assert hydra_words(["step", "seed=1"]) == ['action="step"', "seed=1"]
    assert hydra_words(["compare", "a b.json", "c.json"]) == ['action="compare"', 'files=["a b.json","c.json"]']
    assert hydra_words([]) == []


@pytest.mark.parametrize("first", [["model"], ["action=model"]])
def test_each_convolution_is_composed_behind_the_plain_one(first):
    found = hydra_words([*first, "conv=bdrconv,spconv", "seed=1"])
    assert found[1:] == [
        "+conv@convs.standard=standard",
        "+conv@convs.bdrconv=bdrconv",
        "+conv@convs.spconv=spconv",
        "seed=1",
    ]


def test_all_of_them_once():
    found = hydra_words(["layer", "conv=all"])[1:]
    assert sorted(found) == [f"+conv@convs.{file.stem}={file.stem}" for file in sorted((CONFIGS / "conv").iterdir())]
    assert hydra_words(["layer", "conv=bdrconv,bdrconv"]) == hydra_words(["layer", "conv=bdrconv"])


def test_a_value_of_the_convolution_is_set_in_each():
    found = hydra_words(["layer", "conv=bsconv_s", "conv.layer.p=0.5", "+conv.layer.x=1"])
    assert found[-2:] == ["convs.bsconv_s.layer.p=0.5", "+convs.bsconv_s.layer.x=1"]


def test_lists_and_files_are_quoted_and_numbers_are_not():
    found = hydra_words(["model", "conv=bdrconv", "forms=eager,onnx", "batches=1,64", "plot=a b.png", "json=c=d.json"])
    assert found[3:] == ['forms=["eager","onnx"]', "batches=[1,64]", 'plot=["a b.png"]', 'json="c=d.json"']
    assert hydra_words(["step", "json=null"])[1:] == ["json=null"]


def test_one_convolution_where_only_one_is_measured():
    with pytest.raises(UserError, match=r"^conv=a,b: bench step measures one convolution; layer and model measure sev"):
        hydra_words(["step", "conv=a,b"])
    assert hydra_words(["step", "conv=bdrconv"])[1:] == ["conv=bdrconv"]
