import json

import pytest

from efficientconv.errors import UserError
from efficientconv.tables.tool import missing_sweeps, run, split_words, sweep_words

CONFIG = {"tables": "doconv/sample", "row": "*", "format": "json", "results": [], "save": None, "run": False}


def test_words_are_parted():
    words = ["table=bsconv/*", "row=a", "recipe=cosine_cifar", "run=true", "trainer.max_epochs=1", "hydra.verbose=true"]
    own = ["tables=bsconv/*", "row=a", "run=true", "hydra.verbose=true"]
    assert split_words(words) == (own, ["recipe=cosine_cifar", "trainer.max_epochs=1"])
    assert split_words(["spconv/cifar10_vgg16", "--help"]) == (["tables=spconv/cifar10_vgg16", "--help"], [])


def test_json_is_all_that_is_printed(capsys):
    assert run(CONFIG, []) is None
    rows = json.loads(capsys.readouterr().out)
    assert [row["row"] for row in rows] == ["Baseline", "DO-Conv"]
    assert [row["computed"]["params"] for row in rows] == [4218, 4218]


def test_rows_and_several_tables(capsys):
    run(CONFIG | {"tables": ["doconv/sample", "doconv/sample_gluoncv"], "row": "do*"}, [])
    assert [row["row"] for row in json.loads(capsys.readouterr().out)] == ["DO-Conv", "DO-Conv"]


def test_list_of_tables(capsys):
    run(CONFIG | {"tables": None}, [])
    assert "slimconv/imagenet_resnet101" in capsys.readouterr().out


def test_text_and_page(capsys):
    run(CONFIG | {"format": "text"}, [])
    assert capsys.readouterr().out.startswith("doconv/sample: The PyTorch sample")
    run(CONFIG | {"format": "markdown"}, [])
    assert capsys.readouterr().out.startswith("### doconv/sample: The PyTorch sample")


@pytest.mark.parametrize(
    ("changes", "overrides", "message"),
    [
        ({"row": "Basline"}, [], r"^row=Basline: there is no such row; nearest first: Baseline, DO-Conv$"),
        ({"format": "jsn"}, [], r"^format=jsn: there is no such format; nearest first: json"),
        (
            {"tables": "doconv/sampel"},
            [],
            r"^table=doconv/sampel: there is no such table; nearest first: doconv/sample",
        ),
        (
            {},
            ["recipe=x"],
            r"^recipe=x: is for training, with run=true; the keys of this tool are table, row, format, run",
        ),
    ],
)
def test_mistakes(changes, overrides, message):
    with pytest.raises(UserError, match=message):
        run(CONFIG | changes, overrides)


def test_runs_are_saved(small, leave_run, tmp_path, monkeypatch):
    from efficientconv.tables import tool

    monkeypatch.setattr(tool, "find_tables", lambda patterns: patterns)
    monkeypatch.setattr(tool, "load_table", lambda name: small)
    leave_run(small, small.rows[0], "a", top1=0.9)
    run(CONFIG | {"results": [str(tmp_path)], "save": str(tmp_path / "kept" / "small.csv")}, [])
    (line,) = (tmp_path / "kept" / "small.csv").read_text().splitlines()[1:]
    assert line.startswith("paper/small,plain,0,90.0,99.0,2,,4218,281088,a cpu,")


def test_a_row_is_trained_with_the_words_of_its_table(write):
    table = write(seeds=["0", "1"], overrides=["data=image_folder", "data.image_size=32", "recipe=cosine_cifar"])
    row = table.rows[1]
    start = ["sweep=table-paper-small", "seed=0,1"]
    assert sweep_words(table, row, []) == [*start, *table.overrides, "conv=doconv"]
    other_data = ["data=digits", "trainer.max_epochs=1"]
    assert sweep_words(table, row, other_data) == [*start, "recipe=cosine_cifar", "conv=doconv", *other_data]
    assert sweep_words(table, row, ["seed=5"])[:2] == [start[0], table.overrides[0]]


def test_only_what_is_missing_is_trained(write, leave_run, tmp_path):
    rows = [{"row": "a", "overrides": []}, {"row": "b", "overrides": ["conv=doconv"]}, {"row": "c", "external": "true"}]
    table = write(seeds=["0", "1"], rows=rows)
    leave_run(table, table.rows[0], "0", seed=0)
    leave_run(table, table.rows[0], "1", seed=1)
    leave_run(table, table.rows[1], "2", seed=0)
    (words,) = missing_sweeps([(table, table.rows)], [str(tmp_path)], [])
    assert words == sweep_words(table, table.rows[1], [])
