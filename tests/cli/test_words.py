from efficientconv.cli.words import data_additions, leading_words, tables_words


def test_leading_words_are_a_list():
    assert leading_words("runs")(["out/a b", "x=1", "out/c"]) == ["x=1", 'runs=["out/a b","out/c"]']
    assert leading_words("runs")(["x=1"]) == ["x=1"]


def test_keys_of_the_data_are_additions_to_the_runs_own():
    assert data_additions(["run=a", "data.root=b", "data=digits"]) == ["run=a", "++data.root=b", "data=digits"]


def test_words_for_training_are_kept_as_they_are():
    assert tables_words(["doconv", "conv.layer.d_mul='4'"])[-1] == "training=[\"conv.layer.d_mul='4'\"]"
