"""A report as one page of HTML."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from efficientconv.report import charts
from efficientconv.report.cells import accuracy, grid, notes
from efficientconv.report.curves import curve
from efficientconv.report.runs import Run
from efficientconv.report.table import Report, Row
from efficientconv.report.table import accuracy as accuracy_of
from efficientconv.webpage import Chart, Header, Link, Page, PageCell

_MARKS = {1: "best", 2: "second", None: ""}
_MOST_SHAPES = 6  # more cannot be told apart


def as_page(report: Report, places: Sequence[str], directory: Path) -> Page:
    """Lay out the page.

    Args:
        report: what it shows.
        places: where the runs were found, for the heading.
        directory: where the page will be; links to runs are relative to it.
    """
    headers, rows = _table(report, directory)
    data = {
        "rows": [_record(report, number, row) for number, row in enumerate(report.rows)],
        "runs": [record for number, row in enumerate(report.rows) for record in _runs(report, number, row, directory)],
        "curves": [record for number, row in enumerate(report.rows) for record in _curve(number, row)],
    }
    first, *others = notes(report)
    return Page(f"Report on {', '.join(places)}", first, _charts(report, data), data, headers, rows, others)


def _charts(report: Report, data: dict[str, list[dict[str, Any]]]) -> dict[str, Chart]:
    """Draw accuracy against each cost that is known, and learning curves where there are any."""
    key = "conv" if "conv" in report.columns else "name"
    color = charts.by_color(key, (row[key] for row in data["rows"]))
    shape = _shape(report)
    found = {
        f"Accuracy against {title}": Chart(charts.accuracy_against(cost, color, shape))
        for cost, title in charts.COSTS.items()
        if any(row[cost] for row in data["rows"])
    }
    if data["curves"]:
        last = max(point["epoch"] for point in data["curves"])
        found["Learning curves"] = Chart(charts.learning_curves(color, shape, last), is_wide=True)
    return found


def _shape(report: Report) -> charts.Spec | None:
    """Return how models are told apart; None where there is one, or more than shapes can tell apart."""
    models = {row.configuration.options.get("model", ""): None for row in report.rows}
    return charts.by_option("model", models) if 1 < len(models) <= _MOST_SHAPES else None


def _table(report: Report, directory: Path) -> tuple[list[Header], list[list[PageCell]]]:
    """Return headers and rows: the setting where there are several, options, figures, and links to the runs."""
    texts, cells = grid(report)
    options = len(report.columns)
    headers = [Header(text, is_figure=n >= options, has_filter=n < options) for n, text in enumerate(texts)]
    rows = [
        [
            PageCell(cell.text, _order(cell.text) if n >= options else None, _MARKS[cell.rank])
            for n, cell in enumerate(of)
        ]
        for of in cells
    ]
    for row, page_cells in zip(report.rows, rows, strict=True):
        links = (Link(str(run.seed), _link(run, directory)) for run in row.configuration.runs)
        page_cells.append(PageCell("", links=tuple(links)))
    headers.append(Header("runs, by seed"))
    if len(report.settings) > 1:
        headers.insert(0, Header("setting", has_filter=True))
        for row, page_cells in zip(report.rows, rows, strict=True):
            page_cells.insert(0, PageCell(str(report.number(row))))
    return headers, rows


def _order(text: str) -> float | None:
    """Return the number that a figure's text begins with."""
    word = text.split(" ")[0].strip("[],<").replace("−", "-").replace(",", "")
    try:
        return float(word)
    except ValueError:
        return None


def _record(report: Report, number: int, row: Row) -> dict[str, Any]:
    return {
        "row": number,
        "name": row.configuration.name,
        "link": f"#row-{number}",
        "accuracy": accuracy(row),
        "seeds": ", ".join(map(str, row.top1)),
        "top1": round(row.mean, 4),
        **_costs(row),
        **_shared(report, row),
    }


def _runs(report: Report, number: int, row: Row, directory: Path) -> Iterable[dict[str, Any]]:
    if len(row.configuration.runs) < 2:
        return
    for run in row.configuration.runs:
        top1 = accuracy_of(run, report.metric)
        figures = {"row": number, "name": row.configuration.name, "seed": run.seed, "top1": round(top1 or 0.0, 4)}
        yield {**figures, "link": _link(run, directory), **_costs(row), **_shared(report, row)}


def _curve(number: int, row: Row) -> Iterable[dict[str, Any]]:
    for point in curve(row.configuration):
        yield {
            "row": number,
            "epoch": point.epoch,
            "mean": round(point.mean, 2),
            "low": round(point.low, 2),
            "high": round(point.high, 2),
        }


def _costs(row: Row) -> dict[str, Any]:
    return {cost: getattr(row, cost) for cost in charts.COSTS}


def _shared(report: Report, row: Row) -> dict[str, Any]:
    options = row.configuration.options
    return {"setting": report.number(row), **{key: options[key] for key in ("conv", "model") if key in options}}


def _link(run: Run, directory: Path) -> str:
    return quote(os.path.relpath(run.directory, directory)) + "/"
