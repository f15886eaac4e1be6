import json

import pytest

from efficientconv.errors import UserError
from efficientconv.tables import entries as entries_module
from efficientconv.tables.entries import kinds, tally
from efficientconv.tables.load.files import load_table
from efficientconv.tables.measure.runs import Measurements
from efficientconv.tables.tool import missing_sweeps
from tests.tables.conftest import MEASURED

UNMEASURED = {"row": "a", "overrides": [], "params": "4.2", "flops": "0.281"}


def test_plain_data_has_all_three_kinds_of_figures(section):
    plain, wrong, odd, pruned = json.loads(json.dumps([entry.to_dict() for entry in section]))
    assert plain == {
        "paper": "paper",
        "table": "small",
        "row": "plain",
        "overrides": ["data=digits", "recipe=doconv_sample", "trainer.max_epochs=2", "model=lenet_doconv_sample"],
        "published": {"params": 4200, "flops": 281000, "top1": 95.1},
        "computed": {"params": 4218, "flops": 281088, "convention": "macs"},
        "measured": MEASURED["plain"],
        "agrees": True,
        "erratum": None,
        "external": False,
        "folded": False,
        "truncated": [],
        "note": None,
    }
    assert (wrong["agrees"], wrong["erratum"], wrong["measured"]["differs"]) == (
        False,
        {"params": "7 <k> is right"},
        ["recipe.mixup=0.2"],
    )
    assert (odd["agrees"], odd["erratum"], odd["note"]) == (False, {"flops": "0.3 is"}, "a note")
    assert (pruned["agrees"], pruned["external"], pruned["computed"]) == (None, True, {})


def test_plain_data_tells_how_was_counted_and_compared(write, entries_of):
    columns = {"params": {"unit": "k", "truncated": "true"}, "flops": {"unit": "M", "convention": "macs"}}
    overrides = ["model=resnet20", "model.data_norm=false"]
    row = {"row": "a", "overrides": overrides, "params": "270.9", "without_norms": "true", "convention": "bsconv"}
    (entry,) = entries_of(write(columns=columns, rows=[row], folded="true", overrides=[]))
    plain = entry.to_dict()
    assert (plain["folded"], plain["truncated"], plain["agrees"]) == (True, ["params"], True)
    assert plain["computed"].keys() == {"params", "flops", "convention", "params_without_norms"}
    assert plain["computed"]["params"] == 272_474  # all of the network
    assert plain["computed"]["params_without_norms"] == 270_906
    assert plain["computed"]["convention"] == "bsconv"


@pytest.mark.parametrize(
    ("changes", "unexplained", "needless", "kind"),
    [
        ({}, [], [], "agree"),
        ({"params": "4.1"}, ["params"], [], "differ"),
        ({"params": "4.1", "erratum": {"params": "why"}}, [], [], "with an erratum"),
        ({"flops": "0.4", "erratum": {"params": "why"}}, ["flops"], ["params"], "differ"),
        ({"params": "4.1", "flops": "0.4", "erratum": {"params": "why"}}, ["flops"], [], "differ"),
        ({"erratum": {"params": "why"}}, [], ["params"], "with a needless erratum"),
    ],
)
def test_an_erratum_excuses_its_own_column_alone(write, entries_of, changes, unexplained, needless, kind):
    (entry,) = entries_of(write(rows=[UNMEASURED | changes]))
    assert (entry.unexplained, entry.needless) == (unexplained, needless)
    assert kinds([entry]) == {kind: 1}


def test_tally_counts_each_kind(section):
    assert tally(kinds(section)) == "4 rows: 1 agrees, 2 with an erratum, 1 external"


def test_tally_speaks_of_one_and_of_many():
    assert tally({"agree": 1}) == "1 row: 1 agrees"
    assert tally({"differ": 1, "agree": 2, "external": 0}) == "3 rows: 2 agree, 1 differs"


def test_what_differs_or_is_not_published_is_counted_too(write, entries_of):
    section = entries_of(write(rows=[UNMEASURED | {"params": "4.1"}, {"row": "bare", "overrides": []}]))
    assert tally(kinds(section)) == "2 rows: 1 differs, 1 without published counts"


def test_many_rows_are_counted_by_several_processes_and_come_out_the_same(monkeypatch):
    tables = [load_table("doconv/sample"), load_table("spconv/cifar10_resnet20")]
    chosen = [(table, table.rows) for table in tables]
    alone = entries_module.entries_of_tables(chosen, Measurements([]))
    monkeypatch.setattr(entries_module, "MANY_ROWS", 1)
    together = entries_module.entries_of_tables(chosen, Measurements([]))
    assert [[entry.to_dict() for entry in section] for section in together] == [
        [entry.to_dict() for entry in section] for section in alone
    ]
    assert [len(section) for section in together] == [4, 3]


UNTRAINABLE = [
    (["recipe.max_epochs=1", "trainer.max_epohs=x"], r"trainer\.max_epohs: there is no such key; nearest: trainer\."),
    (["recipe.max_epochs=${nowhere}", "conv=doconv"], "Interpolation key 'nowhere' not"),
    (["data=digit"], "data=digit: there is no such data; nearest first: digits"),
]


@pytest.mark.parametrize(("overrides", "reason"), UNTRAINABLE, ids=str)
def test_a_row_whose_training_does_not_compose_is_not_right(write, entries_of, overrides, reason):
    table = write(rows=[UNMEASURED | {"row": "fits"}, UNMEASURED | {"row": "odd", "overrides": overrides}])
    with pytest.raises(UserError, match=rf"paper/small\.yaml: row 'odd': \[.*\] does not compose: .*{reason}"):
        entries_of(table)
    with pytest.raises(UserError, match=r"paper/small\.yaml: row 'odd': \["):
        missing_sweeps([(table, table.rows)], [], [])


def test_an_external_row_has_no_training(write, entries_of):
    (entry,) = entries_of(write(overrides=["data=digit"], rows=[{"row": "pruned", "external": "true"}]))
    assert entry.agrees is None


def test_what_is_wrong_with_a_row_is_said_by_several_processes_too(write, monkeypatch):
    monkeypatch.setattr(entries_module, "MANY_ROWS", 1)
    table = write(rows=[{"row": "narrow", "overrides": ["model.in_channels=0"]}])
    with pytest.raises(UserError, match=r"small\.yaml: row 'narrow': "):
        entries_module.entries_of_tables([(table, table.rows)], Measurements([]))
