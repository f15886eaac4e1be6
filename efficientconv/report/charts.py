"""The page's charts, as Vega-Lite specifications: accuracy against each cost with its Pareto front, learning curves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Spec = dict[str, Any]

HEIGHT = 300
"""Pixels of a chart."""

NARROWEST = 330
"""Pixels that a chart has on a telephone: its legend has to fit."""

COSTS = {
    "params": "parameters",
    "macs": "MACs",
    "images_per_second": "images/s in training",
}
MORE_IS_BETTER = ("images_per_second",)
_OF_ITS_ROW = {"data": {"name": "rows"}, "key": "row", "fields": ["name", "conv", "model"]}
_FADED = {"condition": {"param": "hovered", "value": 1}, "value": 0.25}


def accuracy_against(cost: str, color: Spec, shape: Spec | None) -> Spec:
    """Draw a point for each row and a smaller one for each of its runs, each a link, and the front of each setting.

    Args:
        cost: a key of `COSTS`.
        color: of the points, as an encoding; see `by_option`.
        shape: likewise.
    """
    x = {"field": cost, "type": "quantitative", "scale": {"type": "log", "nice": False, "padding": 20}}
    x |= {"title": COSTS[cost], "axis": {"format": "~s", "tickCount": 6}}
    y = {"field": "top1", "type": "quantitative", "title": "top-1, %", "scale": {"zero": False, "padding": 12}}
    encoding = {"x": x, "y": y, "color": color} | ({"shape": shape} if shape else {})
    linked = {"href": {"field": "link"}, "tooltip": _tooltip("name", "accuracy", "seeds", cost)}
    point = {"type": "point", "filled": True, "opacity": 0.95}
    run = {"href": {"field": "link"}, "tooltip": _tooltip("name", "seed", "top1")}
    return {
        "width": "container",
        "height": HEIGHT,
        "layer": [
            _front(cost, x, y),
            {"data": {"name": "runs"}, "mark": {**point, "size": 14, "opacity": 0.45}, "encoding": encoding | run},
            {"data": {"name": "rows"}, "mark": {**point, "size": 90}, "encoding": encoding | linked},
        ],
    }


def _front(cost: str, x: Spec, y: Spec) -> Spec:
    """Connect the rows that no other row of their setting beats in both accuracy and cost."""
    cheapest_first = [
        {"field": cost, "order": "descending" if cost in MORE_IS_BETTER else "ascending"},
        {"field": "top1", "order": "descending"},
    ]
    so_far = [{"op": "max", "field": "top1", "as": "best"}]
    before = [{"op": "lag", "field": "best", "as": "before"}]  # null for the first
    in_order = {"sort": cheapest_first, "groupby": ["setting"], "ignorePeers": True}
    return {
        "data": {"name": "rows"},
        "transform": [
            {"filter": f"isValid(datum.{cost})"},
            {"window": so_far, **in_order},
            {"window": before, **in_order},
            {"filter": "!(datum.before >= datum.top1)"},
        ],
        "mark": {"type": "line", "color": "var(--soft)", "strokeWidth": 1.2, "strokeDash": [5, 3]},
        "encoding": {"x": x, "y": y, "detail": {"field": "setting"}, "order": {"field": cost}},
    }


def learning_curves(color: Spec, dash: Spec | None, epochs: int) -> Spec:
    """Draw each row's accuracy by epoch, with a band of one standard deviation; a slider leaves early epochs out.

    Args:
        color: of the lines, as an encoding; see `by_option`.
        dash: of the lines, likewise.
        epochs: the last epoch that any row has.
    """
    x = {"field": "epoch", "type": "quantitative", "title": "epoch", "scale": {"zero": False, "nice": False}}
    x["axis"] = {"labelExpr": "datum.value % 1 ? '' : format(datum.value, 'd')"}  # half an epoch is none
    scale = {"zero": False, "nice": False, "padding": 6}
    top1 = {"type": "quantitative", "title": "top-1, %", "scale": scale}
    line = {"x": x, "y": {"field": "mean", **top1}, "color": color, "detail": {"field": "row"}}
    band = {"x": x, "y": {"field": "low", **top1}, "y2": {"field": "high"}, "color": color, "detail": {"field": "row"}}
    hovered = {"name": "hovered", "select": {"type": "point", "on": "pointerover", "fields": ["row"]}}
    tooltip = {"tooltip": _tooltip("name", "epoch", "mean"), "opacity": _FADED}
    return {
        "width": "container",
        "height": HEIGHT,
        "data": {"name": "curves"},
        "params": [_slider(epochs)],
        "transform": [{"filter": "datum.epoch >= first"}, {"lookup": "row", "from": _OF_ITS_ROW}],
        "layer": [
            {"mark": {"type": "area", "opacity": 0.18}, "encoding": band},
            {
                "params": [hovered],
                "mark": {"type": "line", "strokeWidth": 2, "strokeJoin": "round"},
                "encoding": line | tooltip | ({"strokeDash": dash} if dash else {}),
            },
        ],
    }


def _slider(epochs: int) -> Spec:
    bind = {"input": "range", "min": 1, "max": max(1, epochs - 1), "step": 1, "name": "from epoch "}
    return {"name": "first", "value": 1, "bind": bind}


def by_option(field: str, values: Iterable[str]) -> Spec:
    """Tell options apart by a colour, a shape or a dash that stays the same whatever is filtered out.

    Args:
        field: the option.
        values: all that it has.
    """
    names = list(dict.fromkeys(values))
    columns = max(1, NARROWEST // (25 + 7 * max(map(len, names), default=1)))  # a symbol, and letters
    legend = {"title": None, "orient": "bottom", "symbolOpacity": 1, "columns": columns}
    return {"field": field, "type": "nominal", "scale": {"domain": names}, "legend": legend}


def by_color(field: str, values: Iterable[str]) -> Spec:
    """Tell options apart by colours, of a scheme that has as many; see `by_option`."""
    found = by_option(field, values)
    names = found["scale"]["domain"]
    scheme = next((f"tableau{most}" for most in (10, 20) if len(names) <= most), "turbo")
    return found | {"scale": {"domain": names, "scheme": scheme}}


def _tooltip(*fields: str) -> list[Spec]:
    titles = {"name": "configuration", "top1": "top-1, %", "mean": "top-1, %", "accuracy": "top-1, %"} | COSTS
    kinds = {"name": "nominal", "accuracy": "nominal", "seeds": "nominal"}
    formats = {"top1": ".2f", "mean": ".2f", "params": ",", "macs": ",", "images_per_second": ",.0f"}
    found = [{"field": field, "title": titles.get(field, field)} for field in fields]
    for item in found:
        item["type"] = kinds.get(item["field"], "quantitative")
        if item["field"] in formats:
            item["format"] = formats[item["field"]]
    return found
