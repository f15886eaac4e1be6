from efficientconv.tables.load.overrides import group_of, merged


def test_group_of_an_override():
    assert [group_of(word) for word in ("model=resnet20", "+model.kwargs.x=1", "~data")] == ["model", "model", "data"]


def test_other_words_win_over_the_same_key_and_over_all_of_a_group_that_both_choose():
    words = ["data=image_folder", "data.image_size=32", "model.stem=cifar", "trainer.max_epochs=2"]
    assert merged(words, ["data=digits"]) == [*words[2:], "data=digits"]
    assert merged(words, ["data.image_size=64"]) == [words[0], *words[2:], "data.image_size=64"]
    assert merged(words, ["++trainer.max_epochs=1"]) == [*words[:3], "++trainer.max_epochs=1"]
    assert merged(words, ["model=mobilenetv1"]) == [*words, "model=mobilenetv1"]  # the stem is that of any model
