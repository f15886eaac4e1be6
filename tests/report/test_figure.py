import xml.etree.ElementTree as ET

import pytest

from efficientconv.report.figure import WIDTH, draw, pareto_front, save_figure

pytest.importorskip("matplotlib")


def labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_row_of_panels_in_a_paper_s_width(sweep):
    figure = draw(sweep.report())
    assert figure.get_size_inches()[0] == WIDTH
    assert [ax.get_xlabel() for ax in figure.axes] == ["parameters", "MACs", "images/s in training", "epoch"]
    assert labels(figure) == ["standard", "bsconv_u", "resnet20", "resnet32"]


def test_what_is_not_comparable_has_panels_of_its_own(sweep):
    sweep.add("trainer.max_epochs=5")
    figure = draw(sweep.report())
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert sorted(filter(None, titles)) == [
        "data=digits, recipe=cosine_cifar, 30 epochs",
        "data=digits, recipe=cosine_cifar, 5 epochs",
    ]


def test_more_rows_than_colours_stay_apart(runs):
    for rate in range(1, 14):
        runs.add(f"recipe.optimizer.momentum=0.{rate:02d}")
    report = runs.report()
    figure = draw(report)
    colors = {handle.get_color() for handle in figure.legends[0].legend_handles}
    assert len({str(color) for color in colors}) == len(report.rows) == 13


def test_text_of_an_svg_stays_text(sweep, tmp_path):
    save_figure(sweep.report(), tmp_path / "a.svg", "svg")
    words = [element.text for element in ET.parse(tmp_path / "a.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert "top-1 (%)" in words


def test_the_front_has_what_no_other_beats(sweep):
    rows = sweep.report().rows  # 91.0, 89.0 cheap, 94.0, 95.33 cheap
    assert [round(row.mean) for row in pareto_front(rows, lambda row: row.params)] == [95]
    cheap = [row for row in rows if row.mean < 95]
    assert [round(row.mean) for row in pareto_front(cheap, lambda row: row.params)] == [89, 94]
    assert [round(row.mean) for row in pareto_front(cheap, lambda row: row.params, more_is_better=True)] == [94]
