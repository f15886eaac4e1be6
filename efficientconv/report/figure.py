"""A report as one picture for a paper: a row of panels for each setting, in a text's width and a serif face."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientconv.errors import UserError
from efficientconv.report.cells import setting_in_words
from efficientconv.report.charts import COSTS, MORE_IS_BETTER
from efficientconv.report.curves import curve
from efficientconv.report.table import Report, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 6.75
"""Inches: the text of a two-column paper (CVPR's is 6.875, NeurIPS' one column 5.5)."""

HEIGHT = 1.9
"""Inches of one row of panels."""

_STYLE: dict[Any, Any] = {
    "font.family": "serif",
    "font.serif": ["Times New Roman", "Times", "STIXGeneral"],  # the last comes with Matplotlib
    "mathtext.fontset": "stix",
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "grid.linewidth": 0.3,
    "grid.alpha": 0.6,
    "lines.linewidth": 1.0,
    "lines.markersize": 4.5,
    "pdf.fonttype": 42,  # TrueType: publishers refuse Type 3
    "svg.fonttype": "none",  # text stays text
    "savefig.dpi": 300,
}
_MARKERS = "os^Dv<>phX"
_DASHES = ("-", "--", ":", "-.")


def save_figure(report: Report, file: Path, format: str) -> None:
    """Draw a report and write it.

    Args:
        report: what it shows.
        file: where to.
        format: ``png``, ``svg`` or ``pdf``.

    Raises:
        UserError: Matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise UserError(f"format={format}: matplotlib is not installed: pip install 'efficientconv[report]'") from error
    with matplotlib.rc_context(_STYLE):
        draw(report).savefig(file, format=format)


def draw(report: Report) -> Figure:
    """Draw a row of panels for each setting: accuracy against each cost that is known, and learning curves."""
    from matplotlib.figure import Figure

    costs = [cost for cost in COSTS if any(getattr(row, cost) for row in report.rows)]
    curves = {row.configuration.name: curve(row.configuration) for row in report.rows}
    panels: list[str | None] = [*costs, *([None] if any(curves.values()) else [])]
    look = _Look(report)
    figure = Figure(figsize=(WIDTH, HEIGHT * len(report.settings) + 0.5), layout="constrained")
    grid = figure.subplots(len(report.settings), max(1, len(panels)), squeeze=False)
    for setting, axes in zip(report.settings, grid, strict=True):
        rows = [row for row in report.rows if row.configuration.setting == setting]
        for ax, cost in zip(axes, panels, strict=False):
            _draw_costs(ax, rows, cost, look) if cost else _draw_curves(ax, rows, curves, look)
        axes[0].set_ylabel("top-1 (%)")
        if len(report.settings) > 1:
            axes[0].set_title(setting_in_words(setting, report.differing), loc="left")
    figure.legend(handles=look.legend(), loc="outside lower center", ncols=6, frameon=False)
    return figure


class _Look:
    """Colours by conv, markers and dashes by model, where these differ; else a colour for each row."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._names = list(dict.fromkeys(map(self._name, report.rows)))
        self._models = list(dict.fromkeys(map(self._model, report.rows)))

    def _name(self, row: Row) -> str:
        return row.configuration.options.get("conv", row.configuration.name)

    def _model(self, row: Row) -> str:
        return row.configuration.options.get("model", "")

    def color(self, row: Row) -> Any:
        """Return a row's colour: one of ten that are easy to tell apart, or of a rainbow where there are more."""
        return self._color(self._names.index(self._name(row)))

    def _color(self, number: int) -> Any:
        import matplotlib

        if len(self._names) <= 10:
            return f"C{number}"
        return matplotlib.colormaps["turbo"]((number + 0.5) / len(self._names))

    def marker(self, row: Row) -> str:
        """Return the marker of a row's model."""
        return _MARKERS[self._models.index(self._model(row)) % len(_MARKERS)]

    def dash(self, row: Row) -> str:
        """Return the line style of a row's model."""
        return _DASHES[self._models.index(self._model(row)) % len(_DASHES)]

    def legend(self) -> list[Any]:
        """Return a handle for each colour, and one for each model."""
        from matplotlib.lines import Line2D

        rows = self._report.rows
        by_name = {self._name(row): row for row in rows}
        by_model = {self._model(row): row for row in rows if self._model(row)}
        colors = [Line2D([], [], color=self.color(by_name[name]), marker="o", ls="", label=name) for name in by_name]
        return colors + [
            Line2D([], [], color="0.4", marker=self.marker(row), ls=self.dash(row), label=model)
            for model, row in by_model.items()
        ]


def _draw_costs(ax: Axes, rows: Sequence[Row], cost: str, look: _Look) -> None:
    from matplotlib.ticker import LogLocator

    known = [row for row in rows if getattr(row, cost)]
    front = pareto_front(known, lambda row: getattr(row, cost), more_is_better=cost in MORE_IS_BETTER)
    ax.plot([getattr(row, cost) for row in front], [row.mean for row in front], color="0.6", ls="--", lw=0.8, zorder=1)
    for row in known:
        style = {"color": look.color(row), "marker": look.marker(row), "elinewidth": 0.7, "zorder": 2}
        ax.errorbar(getattr(row, cost), row.mean, yerr=row.std, ls="", **style)
    ax.set_xscale("log", subs=[])
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(_engineering)
    ax.set_xlabel(COSTS[cost])


def _engineering(value: float, _: float) -> str:
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:g} {unit}"
    return f"{value:g}"


def _draw_curves(ax: Axes, rows: Sequence[Row], curves: dict[str, list[Any]], look: _Look) -> None:
    for row in rows:
        points = curves[row.configuration.name]
        epochs = [point.epoch for point in points]
        ax.plot(epochs, [point.mean for point in points], color=look.color(row), ls=look.dash(row))
        low, high = [point.low for point in points], [point.high for point in points]
        ax.fill_between(epochs, low, high, color=look.color(row), alpha=0.2, lw=0)
    ax.set_xlabel("epoch")


def pareto_front(rows: Sequence[Row], cost: Callable[[Row], float], more_is_better: bool = False) -> list[Row]:
    """Return the rows that no other one beats in accuracy without costing more, the cheapest first.

    Args:
        rows: with a known cost.
        cost: a row's.
        more_is_better: the cost is a speed.
    """
    sign = -1 if more_is_better else 1
    front: list[Row] = []
    for row in sorted(rows, key=lambda row: (sign * cost(row), -row.mean)):
        if not front or row.mean > front[-1].mean:
            front.append(row)
    return front
