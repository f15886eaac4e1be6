"""One self-contained page that works from disk: charts and a table, sorted, searched and filtered in the browser.

Vega-Lite draws the charts and DataTables works the table. Both scripts come with Python packages (``vl-convert-python``
and ``itables``, of the extra ``report``) and are embedded, so the page asks for nothing. What the table's filters leave
is what the charts show. Colours are CSS variables, so that the page is light or dark as the system is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from efficientconv.errors import UserError

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
VEGA_LITE = "6.4"

_STYLE = {
    "font": "system-ui, sans-serif",
    "background": None,
    "view": {"stroke": "var(--line)"},
    "axis": {
        "domainColor": "var(--line)",
        "gridColor": "var(--line)",
        "gridOpacity": 0.6,
        "tickColor": "var(--line)",
        "labelColor": "var(--soft)",
        "titleColor": "var(--ink)",
        "titleFontWeight": "normal",
        "labelFontSize": 11,
        "titleFontSize": 12,
        "titlePadding": 8,
    },
    "legend": {"labelColor": "var(--soft)", "titleColor": "var(--ink)", "titleFontWeight": "normal", "symbolSize": 70}
    | {"symbolBaseFillColor": "var(--soft)", "symbolBaseStrokeColor": "var(--soft)"}
    | {"layout": {"bottom": {"anchor": "start", "direction": "vertical"}}},
}


class Link(NamedTuple):
    """A link in a cell: what it says, and where it leads."""

    text: str
    href: str


class PageCell(NamedTuple):
    """A cell of the page's table.

    Attributes:
        text: what it says.
        order: what it is sorted by, where not by its text.
        mark: ``best``, ``second`` or ``differs``.
        links: what stands in it instead of the text.
    """

    text: str
    order: float | None = None
    mark: str = ""
    links: tuple[Link, ...] = ()


class Header(NamedTuple):
    """A column's header; ``is_figure`` puts its cells at the right, ``has_filter`` offers a list of its values."""

    text: str
    is_figure: bool = False
    has_filter: bool = False


class Chart(NamedTuple):
    """A Vega-Lite specification that names the data it draws; ``is_wide`` gives it a row of the page."""

    spec: Mapping[str, Any]
    is_wide: bool = False


@dataclass(frozen=True)
class Page:
    """What a page shows.

    Attributes:
        title: its heading.
        lead: a paragraph under it.
        charts: by heading.
        data: records by name; ``row`` of each is the index of the table's row that it belongs to.
        headers: of the table.
        rows: cells of the table, one for each header.
        notes: paragraphs below the table.
    """

    title: str
    lead: str
    charts: Mapping[str, Chart]
    data: Mapping[str, Sequence[Mapping[str, Any]]]
    headers: Sequence[Header]
    rows: Sequence[Sequence[PageCell]]
    notes: Sequence[str]

    def render(self) -> str:
        """Write the page.

        Raises:
            UserError: the packages of the extra ``report`` are not installed.
        """
        jinja2, vega, table_script, table_style = _packages()
        environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        template = environment.from_string(Path(__file__).with_suffix(".html").read_text())
        charts = [{"$schema": SCHEMA, "config": _STYLE, **chart.spec} for chart in self.charts.values()]
        scripts = {"vega": vega, "table_script": table_script, "table_style": table_style}
        return template.render(page=self, charts=charts, **{name: _harmless(text) for name, text in scripts.items()})


def _harmless(script: str) -> str:
    """Keep a script from ending the element that it stands in; in its strings the two writings are equal."""
    return script.replace("</script", r"<\/script")


@cache
def _packages() -> tuple[Any, str, str, str]:
    """Return the template engine, Vega's script, and DataTables' script and style."""
    try:
        import itables.options
        import jinja2
        import vl_convert
    except ImportError as error:
        missing = f"{error.name} is not installed"
        raise UserError(f"format=html: {missing}: pip install 'efficientconv[report]'") from error
    bundle = Path(itables.options.dt_bundle)
    vega = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE)
    return jinja2, vega, bundle.read_text(encoding="utf-8"), bundle.with_suffix(".css").read_text(encoding="utf-8")
