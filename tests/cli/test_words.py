from efficientconv.cli.words import data_additions, first_words, leading_words, tables_words


def test_first_words_are_the_values_of_keys():
    assert first_words("action")(["step", "seed=1"]) == ['action="step"', "seed=1"]
    assert first_words("action")(["seed=1"]) == ["seed=1"]
    assert first_words("action")([]) == []
    assert first_words("action", "sweep")(["status", "first", "outputs=a"]) == [
        'action="status"',
        'sweep="first"',
        "outputs=a",
    ]
    assert first_words("action", "sweep")(["status", "sweep=first"]) == ['action="status"', "sweep=first"]


def test_leading_words_are_a_list():
    assert leading_words("runs")(["out/a b", "x=1", "out/c"]) == ["x=1", 'runs=["out/a b","out/c"]']
    assert leading_words("runs")(["x=1"]) == ["x=1"]


def test_keys_of_the_data_are_additions_to_the_runs_own():
    assert data_additions(["run=a", "data.root=b", "data=digits"]) == ["run=a", "++data.root=b", "data=digits"]


def test_words_for_training_are_kept_as_they_are():
    assert tables_words(["doconv", "conv.layer.d_mul='4'"])[-1] == "training=[\"conv.layer.d_mul='4'\"]"
