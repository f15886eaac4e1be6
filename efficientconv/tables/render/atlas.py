"""Tables as one page: published figures beside computed and measured ones, searched, filtered, and plotted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from efficientconv.report.charts import HEIGHT, Spec, by_color
from efficientconv.runs.names import split_override
from efficientconv.tables.count.network import comparable, table_convention
from efficientconv.tables.entries import Entry
from efficientconv.tables.load.figures import Figure, printed, with_unit
from efficientconv.tables.load.table import COLUMNS, COUNTED
from efficientconv.tables.render.cells import TITLES, measured_text, remark
from efficientconv.tables.render.formats import Section, about, heading
from efficientconv.webpage import Chart, Header, Page, PageCell

_LEAD = (
    "Each published figure, the one computed from the network that this project builds, and what was measured. "
    "Computed figures that do not have the published digits are orange, and the remarks say why. "
    "Curves join the rows of one table that have one convolution; diamonds are measured here, "
    "with * in the table where the training was not the published one."
)
_COSTS = {"params": "parameters", "flops": "MACs"}
_AXES = {"params": "parameters", "flops": "MACs, as each table counts them"}
_EXTERNAL = "external"
"""What stands for the convolution of a row that is printed only to be compared with."""
_NAMES = ("paper", "table", "row", "data", "backbone", "conv")
_FILTERED = ("paper", "table", "data", "backbone", "conv")


def as_html(sections: Sequence[Section]) -> str:
    """Write the page.

    Raises:
        UserError: the packages of the extra ``report`` are not installed.
    """
    return atlas(sections).render()


def atlas(sections: Sequence[Section]) -> Page:
    """Lay out the page: all rows of all tables in one table, and charts for each data set."""
    entries = [entry for section in sections for entry in section]
    records = [_record(number, entry) for number, entry in enumerate(entries)]
    cells = [_cells(entry, record) for entry, record in zip(entries, records, strict=True)]
    figures = [header for header in dict.fromkeys(key for row in cells for key in row) if _is_filled(cells, header)]
    headers = [Header(name, is_figure=name in _figure_headers(), has_filter=name in _FILTERED) for name in figures]
    data = {
        "rows": [record for record in records if "top1" in record],
        "measured": [record | record["measured"] for record in records if "measured" in record],
    }
    rows = [[row.get(header, PageCell("")) for header in figures] for row in cells]
    return Page("Published tables", _LEAD, dict(_charts(data)), data, headers, rows, list(map(_note, sections)))


def _note(section: Section) -> str:
    """Say what a table is, how many of its rows come out, and how its FLOPs are counted."""
    table = section[0].table
    sentences = [table.paper, *about(section), f"FLOPs by the convention {table_convention(table)}"]
    return f"{heading(table)}: {' '.join(sentence.rstrip('.') + '.' for sentence in sentences)}"


def _is_filled(cells: Sequence[Mapping[str, PageCell]], header: str) -> bool:
    return any(row[header].text for row in cells if header in row)


# -- charts ------------------------------------------------------------------------------------------------------


def _record(number: int, entry: Entry) -> dict[str, Any]:
    """Return what the charts and filters know of a row; costs as computed, as published where nothing is."""
    words = dict(map(split_override, entry.table.of(entry.row).overrides))
    backbone = words.get("model.name", words.get("model", ""))
    found = {
        "row": number,
        "name": entry.row.name,
        "link": f"#row-{number}",
        "table": entry.table.name,
        "data": words.get("data", ""),
        "backbone": "" if entry.row.external else backbone,
        "conv": _EXTERNAL if entry.row.external else words.get("conv", "standard"),
        "family": " ".join([entry.table.name, re.split(r"\d", backbone)[0], *_conv_words(words)]),
    }
    figures = entry.row.figures
    found |= {cost: entry.computed.get(cost, figures[cost].value if cost in figures else None) for cost in _COSTS}
    if "top1" in figures:
        found["top1"] = figures["top1"].value
    if "top1" in entry.measured:
        other = [word.removeprefix("data=") for word in entry.measured["differs"] if word.startswith("data=")]
        found["measured"] = {"top1": entry.measured["top1"], "data": other[0] if other else found["data"]}
    return found


def _conv_words(words: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in words.items() if key.partition(".")[0] == "conv"]


def _charts(data: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[tuple[str, Chart]]:
    """Draw accuracy against each cost for each data set, with a curve for each family."""
    records = [record for records in data.values() for record in records]
    convs = sorted({record["conv"] for record in records})
    for name in filter(None, dict.fromkeys(record["data"] for record in records)):
        color = by_color("conv", convs)
        color["legend"] |= {"values": sorted({record["conv"] for record in records if record["data"] == name})}
        drawn = [kind for kind, of in data.items() if any(record["data"] == name for record in of)]
        for cost, title in _COSTS.items():
            if any(record[cost] for record in records if record["data"] == name):
                yield f"{name}: top-1 against {title}", Chart(_chart(name, cost, color, drawn))


def _chart(data: str, cost: str, color: Spec, drawn: Sequence[str]) -> Spec:
    """Draw the rows of one data set: ``rows`` as published, and ``measured`` ones, whichever there are."""
    x = {"field": cost, "type": "quantitative", "scale": {"type": "log", "nice": False, "padding": 15}}
    x |= {"title": _AXES[cost], "axis": {"format": "~s", "tickCount": 6}}
    y = {"field": "top1", "type": "quantitative", "title": "top-1, %", "scale": {"zero": False, "padding": 10}}
    picked = {"name": "picked", "select": {"type": "point", "fields": ["conv"]}, "bind": "legend"}
    opacity = {"condition": {"param": "picked", "value": 0.9}, "value": 0.1}
    encoding: Spec = {"x": x, "y": y, "color": color, "opacity": opacity}
    tooltip = [{"field": field, "type": "nominal"} for field in ("name", "table", "backbone", "conv")]
    tooltip += [{"field": "top1", "title": "top-1, %"}, {"field": cost, "title": _COSTS[cost], "format": ",d"}]
    linked: Spec = {"href": {"field": "link"}, "tooltip": tooltip}
    family: Spec = {"detail": {"field": "family"}, "order": {"field": cost}}
    marks: dict[str, Spec] = {
        "rows": {"filled": True, "size": 45},
        "measured": {"shape": "diamond", "size": 90, "strokeWidth": 2},
    }
    here: Spec = {"transform": [{"filter": f"datum.data == {json.dumps(data)} && isValid(datum.{cost})"}]}
    layers: list[Spec] = [
        {"data": {"name": kind}, **here, "mark": {"type": "point", **marks[kind]}, "encoding": encoding | linked}
        for kind in drawn
    ]
    layers[0]["params"] = [picked]
    if "rows" in drawn:
        line = {"mark": {"type": "line", "strokeWidth": 1.3}, "encoding": encoding | family}
        layers.insert(0, {"data": {"name": "rows"}, **here, **line})
    return {"width": "container", "height": HEIGHT, "layer": layers}


# -- the table ---------------------------------------------------------------------------------------------------


def _figure_headers() -> set[str]:
    return {f"{kind}{title}" for title in TITLES.values() for kind in ("", "computed ", "measured ")}


def _cells(entry: Entry, record: Mapping[str, Any]) -> dict[str, PageCell]:
    """Return a row's cells by header: each published figure, and behind it what was computed or measured."""
    paper, _, table = entry.table.name.partition("/")
    found = {name: PageCell(str(record.get(name, ""))) for name in _NAMES}
    found |= {"paper": PageCell(paper), "table": PageCell(table), "row": PageCell(entry.row.name)}
    for name in COLUMNS:
        figure = entry.row.figures.get(name)
        found[TITLES[name]] = PageCell(str(figure), figure.value) if figure else PageCell("")
        if name in COUNTED:
            found[f"computed {TITLES[name]}"] = _computed(entry, name, figure)
        elif name != "latency":
            found[f"measured {TITLES[name]}"] = PageCell(measured_text(entry, name), entry.measured.get(name))
    return found | {"remarks": PageCell(remark(entry))}


def _computed(entry: Entry, name: str, figure: Figure | None) -> PageCell:
    """Print what was computed as the published figure is, else in the column's unit, else exactly."""
    if name not in entry.computed:
        return PageCell("")
    exact = comparable(entry.computed, name)
    column = entry.table.columns.get(name)
    unit = figure.unit if figure else column.unit if column else ""
    text = figure.like(exact) if figure else printed(exact, unit, 2) if unit else f"{exact:,}"
    mark = "" if entry.agreement.get(name, True) else "differs"
    return PageCell(with_unit(text, unit), float(Fraction(exact)), mark)
