"""A picture of multiply-adds against measured time: each convolution a point, and a line where time follows MACs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import cos, pi, sin
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from efficientconv.bench.contest import Contest, name_of
from efficientconv.bench.words import REFERENCE
from efficientconv.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

SUFFIXES = (".png", ".svg", ".pdf")
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.grid": True,
    "axes.grid.which": "both",
    "grid.linewidth": 0.3,
    "grid.alpha": 0.6,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "efficientconv",
    "savefig.dpi": 150,
}
_DISTANCES = (7, 11, 16, 22, 29, 37, 46, 56)
"""Points from a point's centre to its label, the nearest first."""

_DIRECTIONS = 24
_STEPS = 60

RADIUS = 5
"""Pixels around a point that no label may cover."""

BESIDE = 8
"""Points of offset up to which it is plain which point a label is of."""

NEAR = 2
"""Points of offset up to which a label is centred."""


class Point(NamedTuple):
    """A convolution: multiply-adds for an image, and seconds for one."""

    conv: str
    macs: float
    seconds: float


def require_drawable(files: object) -> None:
    """Refuse what is no list of picture files, and pictures without Matplotlib.

    Raises:
        UserError: says which endings there are, or what to install.
    """
    if not isinstance(files, list) or any(Path(str(file)).suffix not in SUFFIXES for file in files):
        names = ",".join(map(str, files)) if isinstance(files, list) else files
        raise UserError(f"plot={names}: must be files that end in {', '.join(SUFFIXES)}, with commas between")
    if files:
        try:
            import matplotlib  # noqa: F401
        except ImportError as error:
            remedy = "pip install 'efficientconv[report]'"
            raise UserError(f"plot={files[0]}: matplotlib is not installed: {remedy}") from error


def points_of(contest: Contest, form: str) -> list[Point]:
    """Return a point for each convolution of a contest that takes part in a form."""
    convs = [conv for conv in contest.convs if contest.has(conv, form)]
    return [
        Point(conv, contest.macs[name_of(conv, form)], contest.seconds(conv, form) / contest.images) for conv in convs
    ]


def save(points: Sequence[Point], title: str, file: Path, suffix: str) -> None:
    """Draw the points and write the picture.

    Args:
        points: the reference among them.
        title: of the picture.
        file: where to.
        suffix: one of ``SUFFIXES``.
    """
    import matplotlib

    metadata = {"Date": None} if suffix == ".svg" else None  # the same figures, the same file
    with matplotlib.rc_context(_STYLE):
        draw(points, title).savefig(file, format=suffix[1:], metadata=metadata)


def draw(points: Sequence[Point], title: str) -> Figure:
    """Draw the points on logarithmic axes, and the line through the reference on which time follows MACs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_xlabel("multiply-adds for one image, millions")
    axes.set_ylabel("ms for one image")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(*_limits([point.macs / 1e6 for point in points]))
    axes.set_ylim(*_limits([1e3 * point.seconds for point in points]))
    for axis in (axes.xaxis, axes.yaxis):
        _plain_ticks(axis)
    reference = next(point for point in points if point.conv == REFERENCE)
    line = _line(axes, reference)
    for point in points:
        colour = "black" if point.conv == REFERENCE else "C0"
        axes.plot(point.macs / 1e6, 1e3 * point.seconds, "o", color=colour, markersize=5, zorder=3)
    axes.legend(loc="best", fontsize=8)
    figure.draw_without_rendering()  # fixes the layout, which the labels have to know
    figure.set_layout_engine("none")
    _label(axes, points, line)
    return figure


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """Leave room for labels around the points."""
    room = max(1.35, (max(values) / min(values)) ** 0.16)
    return min(values) / room, max(values) * room


def _plain_ticks(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _line(axes: Axes, reference: Point) -> list[tuple[float, float]]:
    """Draw the line on which time follows multiply-adds, and return some of its points."""
    ends = axes.get_xlim()
    macs = [ends[0] * (ends[1] / ends[0]) ** (i / _STEPS) for i in range(_STEPS + 1)]
    milliseconds = [1e3 * reference.seconds * each / (reference.macs / 1e6) for each in macs]
    label = f"time in proportion to multiply-adds, from {REFERENCE}"
    axes.plot(macs, milliseconds, color="0.45", ls="--", lw=1, zorder=1, label=label)
    return list(zip(macs, milliseconds, strict=True))


def _label(axes: Axes, points: Sequence[Point], line: Sequence[tuple[float, float]]) -> None:
    """Write each name where it covers no point, no other name and not the line."""
    legend = axes.get_legend()
    assert legend is not None
    taken = [_around(axes, (point.macs / 1e6, 1e3 * point.seconds), RADIUS) for point in points]
    taken += [_around(axes, place, 1) for place in line]
    taken.append(legend.get_window_extent())
    for point in sorted(points, key=lambda point: (point.macs, point.seconds)):
        taken.append(_extent(_placed(axes, point, taken)))


def _around(axes: Axes, place: tuple[float, float], radius: float) -> Bbox:
    from matplotlib.transforms import Bbox

    x, y = axes.transData.transform(place)
    return Bbox.from_extents(x - radius, y - radius, x + radius, y + radius)


def _placed(axes: Axes, point: Point, taken: Sequence[Bbox]) -> Annotation:
    """Return a label at the first free offset; where none is free, the last one stays."""
    label = axes.annotate(
        point.conv,
        (point.macs / 1e6, 1e3 * point.seconds),
        xytext=(0, 0),
        textcoords="offset points",
        fontsize=8,
        zorder=4,
        arrowprops={"arrowstyle": "-", "color": "0.6", "lw": 0.5, "shrinkA": 0, "shrinkB": 3},
    )
    inside = axes.get_window_extent()
    for x, y in _offsets():
        label.set_position((x, y))
        label.set_horizontalalignment(_beside(x, "left", "right"))
        label.set_verticalalignment(_beside(y, "bottom", "top"))
        assert label.arrow_patch is not None
        label.arrow_patch.set_visible(x * x + y * y > BESIDE**2)
        box = _extent(label)
        if _holds(inside, box) and not any(box.overlaps(other) for other in taken):
            break
    return label


def _offsets() -> Iterator[tuple[float, float]]:
    """Yield offsets of a label from its point, in points, the nearest first, and right of it before left."""
    for distance in _DISTANCES:
        for i in range(_DIRECTIONS):
            angle = 2 * pi * (i // 2 + i % 2) / _DIRECTIONS * (1 if i % 2 else -1)
            yield distance * cos(angle), distance * sin(angle)


def _beside(offset: float, ahead: Any, behind: Any) -> Any:
    """Choose the side of a label that faces its point."""
    return "center" if abs(offset) < NEAR else ahead if offset > 0 else behind


def _extent(label: Annotation) -> Bbox:
    """Return the box of a label's text; its own method adds the line, and moves the text to its offset."""
    from matplotlib.text import Text

    label.get_window_extent()
    return Text.get_window_extent(label).padded(1)


def _holds(outer: Bbox, inner: Bbox) -> bool:
    return outer.x0 <= inner.x0 and outer.y0 <= inner.y0 and inner.x1 <= outer.x1 and inner.y1 <= outer.y1
