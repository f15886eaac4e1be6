from fractions import Fraction

import pytest

from efficientconv.errors import UserError
from efficientconv.tables.count.network import agreement, count_row

# three 3×3 convolutions with bias, 3 → 16 → 16 → 10 channels, on 16×16, 8×8 and 4×4 pixels
WEIGHTS = (3 * 16 * 9, 16 * 16 * 9, 16 * 10 * 9)
PARAMS = sum(WEIGHTS) + 16 + 16 + 10
MACS = sum(weights * pixels for weights, pixels in zip(WEIGHTS, (256, 64, 16), strict=True))
DEPTHWISE = (3 + 16 + 16) * 9 * 9  # of DO-Conv, d_mul = 9


def test_counts_are_exact(small):
    assert count_row(small, small.row("plain")) == {"params": PARAMS, "flops": MACS, "convention": "macs"}
    assert count_row(small, small.row("doconv"))["params"] == PARAMS + DEPTHWISE


def test_agreement_is_by_column(small, write):
    plain = small.row("plain")
    assert agreement(small, plain, count_row(small, plain)) == {"params": True, "flops": True}
    wrong = write(rows=[{"row": "plain", "overrides": [], "params": "4.2", "flops": "0.280"}])
    assert agreement(wrong, wrong.rows[0], count_row(wrong, wrong.rows[0])) == {"params": True, "flops": False}


def test_a_folded_row_costs_what_the_plain_one_does(write):
    rows = [
        {"row": "plain", "overrides": []},
        {"row": "folded", "overrides": ["conv=doconv"], "folded": "true", "same_cost_as": "plain"},
        {"row": "trained", "overrides": ["conv=doconv"], "same_cost_as": "plain"},
    ]
    table = write(rows=rows)
    agrees = {row.name: agreement(table, row, count_row(table, row)) for row in table.rows}
    assert agrees["plain"] == {}
    assert agrees["folded"] == {"params": True, "flops": True}
    assert agrees["trained"] == {"params": False, "flops": True}


def test_a_row_s_own_convention_wins(write):
    table = write(rows=[{"row": "plain", "overrides": [], "convention": "bsconv"}])
    figures = count_row(table, table.rows[0])
    assert figures["convention"] == "bsconv"
    assert figures["flops"] > MACS


def test_a_row_s_own_images_are_counted(write):
    rows = [{"row": "plain", "overrides": ["model.in_channels=1"], "input_size": ["1", "28", "28"]}]
    figures = count_row(table := write(rows=rows), table.rows[0])
    assert (figures["params"], figures["flops"]) == (PARAMS - 2 * 16 * 9, 9 * (16 * 14**2 + 256 * 7**2 + 160 * 4**2))


def test_without_norms(write):
    overrides = ["model=resnet20", "model.data_norm=false"]
    rows = [
        {"row": "all", "overrides": overrides, "params": "270.9"},
        {"row": "fewer", "overrides": overrides, "params": "270.9", "without_norms": "true"},
    ]
    table = write(rows=rows, overrides=[])
    whole, fewer = (count_row(table, row) for row in table.rows)
    norms = 2 * (7 * 16 + 7 * 32 + 7 * 64)  # stem and shortcuts included
    assert whole["params"] == 270_906 + norms
    assert fewer == whole | {"params_without_norms": 270_906}
    assert agreement(table, table.rows[0], whole) == {"params": False}
    assert agreement(table, table.rows[1], fewer) == {"params": True}


def test_saving_is_relative_to_another_row(write):
    columns = {"params_saved": {"unit": "%", "of": "trained"}}
    rows = [{"row": "trained", "overrides": ["conv=doconv"]}, {"row": "plain", "overrides": [], "params_saved": "40"}]
    table = write(columns=columns, rows=rows)
    figures = count_row(table, table.row("plain"))
    assert figures["params_saved"] == 100 * (1 - Fraction(PARAMS, PARAMS + DEPTHWISE))
    assert agreement(table, table.row("plain"), figures) == {"params_saved": True}


def test_an_external_row_is_not_counted(write):
    table = write(rows=[{"row": "pruned", "external": "true", "params": "4.2"}])
    assert count_row(table, table.rows[0]) == {}
    assert agreement(table, table.rows[0], {}) == {}


def test_what_cannot_be_built_is_named_with_file_and_row(write):
    table = write(rows=[{"row": "narrow", "overrides": ["conv=slimconv"]}])
    with pytest.raises(UserError, match=r"paper/small\.yaml: row 'narrow': conv\.where selects nothing|row 'narrow': "):
        count_row(table, table.rows[0])
    table = write(rows=[{"row": "nothing", "overrides": ["model.in_channels=0"]}])
    with pytest.raises(UserError, match=r"small\.yaml: row 'nothing': in_channels=0: must be a whole number"):
        count_row(table, table.rows[0])
    table = write(rows=[{"row": "plain", "overrides": [], "convention": "flops"}])
    with pytest.raises(UserError, match=r"row 'plain': convention 'flops' is unknown; the conventions are macs, "):
        count_row(table, table.rows[0])
