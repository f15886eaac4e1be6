import re

import pytest

from efficientconv.errors import UserError
from efficientconv.tables.load.files import find_tables, load_table, table_names

ROW = {"row": "plain", "overrides": [], "params": "4.2"}
PRUNED = {"row": "pruned", "external": "true"}
EXTERNAL = {"row": "plain", "external": "true"}


def test_reads_what_the_file_says(small):
    assert (small.name, small.classes, small.input_size, small.seeds) == ("paper/small", 10, (3, 32, 32), (0,))
    plain, doconv = small.rows
    assert doconv.overrides == ("conv=doconv",)
    assert plain.figures["top1"].text == "95.10"
    assert "flops" not in doconv.figures


def test_numbers_keep_the_digits_they_were_written_with(write, tmp_path):
    file = tmp_path / "table" / "paper" / "small.yaml"
    write()
    file.write_text(file.read_text().replace("'95.60'", "95.60"))
    assert load_table("paper/small", tmp_path / "table").rows[1].figures["top1"].text == "95.60"


def test_a_row_may_differ_from_its_table(write):
    own = {**ROW, "folded": "false", "convention": "bsconv", "without_norms": "true", "where_present": "true"}
    table = write(folded="true", rows=[ROW | {"row": "as the table"}, own])
    assert [row.folded for row in table.rows] == [True, False]
    assert table.folded
    assert (table.rows[1].convention, table.rows[1].without_norms) == ("bsconv", True)
    assert [row.where_present for row in table.rows] == [False, True]


def test_a_row_may_have_data_of_its_own(write):
    own = {**ROW, "overrides": ["data=mnist"], "input_size": ["1", "28", "28"]}
    table = write(rows=[ROW | {"row": "as the table"}, own])
    same, other = (table.of(row) for row in table.rows)
    assert same == table
    assert other.overrides == (
        "recipe=doconv_sample",
        "trainer.max_epochs=2",
        "model=lenet_doconv_sample",
        "data=mnist",
    )
    assert other.input_size == (1, 28, 28)


def test_digits_are_cut_off_in_whole_columns(write):
    columns = {"params": {"unit": "k", "truncated": "true"}, "flops": {"unit": "M", "convention": "macs"}}
    figures = write(columns=columns, rows=[ROW | {"flops": "0.281"}]).rows[0].figures
    assert [figures[name].truncated for name in ("params", "flops")] == [True, False]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clases": "10"}, "unknown key 'clases'; nearest first: classes"),
        ({"rows": [{**ROW, "parms": "1"}]}, "row 'plain': unknown key 'parms'; nearest first: params"),
        ({"rows": [{**ROW, "params": "4,2"}]}, "row 'plain': params: '4,2' is not a number"),
        ({"rows": [{**ROW, "params": "25.56M"}]}, "row 'plain': params: '25.56M' is not a number"),
        ({"rows": [{**ROW, "params": ["1"]}]}, "row 'plain': params: must be text or a number, not ['1']"),
        ({"rows": [{"overrides": []}]}, "row 'number 1': row is missing"),
        ({"rows": ["plain"]}, "row 'number 1': must be a mapping of keys to values, not 'plain'"),
        ({"rows": [ROW, ROW]}, "two rows are called 'plain'"),
        ({"rows": [{**ROW, "overrides": ["seed=1"]}]}, "row 'plain': overrides: 'seed=1' must set one of model, conv"),
        ({"rows": [{"row": "plain"}]}, "row 'plain': must have either overrides, which build the network, or"),
        ({"rows": [{**ROW, "external": "true"}]}, "row 'plain': must have either overrides"),
        ({"rows": [{**ROW, "folded": "yes"}]}, "row 'plain': folded: must be true or false, not 'yes'"),
        ({"rows": [{**ROW, "truncated": ["params"]}]}, "row 'plain': unknown key 'truncated'; nearest first: "),
        ({"rows": []}, "rows: must be at least one"),
        (
            {"rows": [{**ROW, "top1": "9", "erratum": {"top1": "why"}}]},
            "row 'plain': erratum: 'top1' is not a counted figure of this row; the counted ones are params",
        ),
        (
            {"rows": [{**EXTERNAL, "params": "4.2", "erratum": {"params": "why"}}]},
            "row 'plain': erratum: 'params' is not a counted figure of this row; the counted ones are none",
        ),
        (
            {"rows": [{**ROW, "erratum": {"params": ""}}]},
            "row 'plain': erratum: params: must be a reason, not ''",
        ),
        (
            {"rows": [{**ROW, "erratum": {"params": ["why"]}}]},
            "row 'plain': erratum: params: must be a reason, not ['why']",
        ),
        ({"rows": [{**ROW, "same_cost_as": "other"}]}, "row 'plain': same_cost_as: there is no row 'other'"),
        ({"rows": [{**ROW, "same_cost_as": "plain"}]}, "row 'plain': same_cost_as: must be another row"),
        (
            {"rows": [{**ROW, "same_cost_as": "pruned"}, PRUNED]},
            "row 'plain': same_cost_as: row 'pruned' is external and not counted",
        ),
        (
            {
                "columns": {"params": {"unit": "k"}, "params_saved": {"unit": "%", "of": "pruned"}},
                "rows": [ROW, PRUNED],
            },
            "column 'params_saved': of: row 'pruned' is external and not counted",
        ),
        ({"seeds": []}, "seeds: must be at least one"),
        ({"seeds": ["1", "2", "1"]}, "seeds: 1 is given twice"),
        ({"stand_ins": ["recpie"]}, "stand_ins: 'recpie' must be one of data, recipe"),
        ({"rows": [{**ROW, "input_size": ["1"]}]}, "row 'plain': input_size: must be channels, height and width"),
        ({"rows": [{**ROW, "where_present": "1"}]}, "row 'plain': where_present: must be true or false, not '1'"),
        ({"seeds": [["1"]]}, "seeds: must be a whole number, not ['1']"),
        ({"overrides": ["seeds=1"]}, "overrides: 'seeds=1' must set one of model, conv, data, recipe, trainer"),
        ({"columns": {"parms": {"unit": "M"}}}, "column 'parms': there is no such column; nearest first: params"),
        (
            {"columns": {"params": {"unit": "T"}}},
            "column 'params': unit 'T' is unknown; the units are k, M, G, %, ms",
        ),
        ({"columns": {"flops": {"unit": "M"}}}, "column 'flops': convention is missing"),
        ({"columns": {"top1": {"unit": "%", "of": "plain"}}}, "column 'top1': of is for params_saved alone"),
        (
            {"columns": {"params_saved": {"unit": "%", "of": "x"}}, "rows": [EXTERNAL]},
            "column 'params_saved': of: there",
        ),
        ({"input_size": ["32", "32"]}, "input_size: must be channels, height and width, not ['32', '32']"),
        ({"classes": "ten"}, "classes: must be a whole number, not 'ten'"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(write, changes, message):
    with pytest.raises(UserError, match=rf"table/paper/small\.yaml: {re.escape(message)}"):
        write(**changes)


OF_ROWS_THAT_ARE_BUILT = {
    "input_size": ["3", "32", "32"],
    "where_present": "true",
    "folded": "false",
    "convention": "macs",
    "without_norms": "true",
    "same_cost_as": "plain",
}


@pytest.mark.parametrize("key", OF_ROWS_THAT_ARE_BUILT)
def test_an_external_row_has_no_keys_of_those_that_are_built(write, key):
    message = rf"paper/small\.yaml: row 'pruned': {key}: needs overrides; an external row is neither"
    with pytest.raises(UserError, match=message):
        write(rows=[ROW, PRUNED | {key: OF_ROWS_THAT_ARE_BUILT[key]}])


def test_an_external_row_may_be_in_a_table_that_is_folded(write):
    assert write(folded="true", rows=[PRUNED]).rows[0].external


def test_a_file_that_is_not_utf_8_is_named(tmp_path):
    (tmp_path / "latin.yaml").write_bytes("paper: Hägele".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin\.yaml: not UTF-8: it has a byte 0xe4$"):
        load_table("latin", tmp_path)


def test_a_missing_key_is_named(write):
    content = {"paper": "P", "rows": []}
    with pytest.raises(UserError, match=r"small\.yaml: title is missing$"):
        write(content)


def test_what_is_not_yaml_is_said_to_be(tmp_path):
    (tmp_path / "broken.yaml").write_text("rows: [")
    with pytest.raises(UserError, match=r"broken\.yaml: not YAML: while parsing a flow node .* line 1, column 8$"):
        load_table("broken", tmp_path)


def test_a_key_that_is_given_twice_is_named_with_its_line(write, tmp_path):
    file = tmp_path / "table" / "paper" / "small.yaml"
    write()
    file.write_text(file.read_text() + "  flops: 17.91\n  flops: 18\n")
    line = file.read_text().count("\n")
    with pytest.raises(UserError, match=rf"paper/small\.yaml, line {line}: 'flops' is given twice$"):
        load_table("paper/small", tmp_path / "table")


def test_tables_are_found_by_name_and_pattern():
    assert "bsconv/cifar100_resnet" in table_names()
    assert find_tables(["bsconv/cifar100_resnet"]) == ["bsconv/cifar100_resnet"]
    assert len(find_tables(["bsconv/*"])) == 15
    assert find_tables(["bsconv"]) == find_tables(["bsconv/*"])
    assert find_tables(["all"]) == table_names()
    assert find_tables(["spconv/*", "spconv/cifar10_vgg16"]) == find_tables(["spconv/*"])


def test_an_unknown_table_lists_the_nearest():
    with pytest.raises(
        UserError, match=r"^table=bsconv/cifar100_resnets: there is no such table; nearest first: bsconv/"
    ):
        find_tables(["bsconv/cifar100_resnets"])
    with pytest.raises(UserError, match=r"^table=bsconf: there is no such table; nearest first: bsconv, "):
        find_tables(["bsconf"])


def test_rows_are_found_by_name_and_pattern(small):
    assert [row.name for row in small.rows_like("DO*")] == ["doconv"]
    assert small.row("plain").name == "plain"
