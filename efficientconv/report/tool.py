"""``efficientconv report``: many run directories become one table, a page or a picture."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from efficientconv.atomic import replaced_whole
from efficientconv.console import console
from efficientconv.errors import UserError, nearest_first
from efficientconv.report import formats
from efficientconv.report.figure import save_figure
from efficientconv.report.latency import read_latencies, with_latencies
from efficientconv.report.latex import as_latex
from efficientconv.report.page import as_page
from efficientconv.report.runs import find_runs
from efficientconv.report.table import METRICS, Report, build_report

TEXTS: dict[str, Callable[[Report], str]] = {
    "markdown": formats.as_markdown,
    "csv": formats.as_csv,
    "latex": as_latex,
}
PICTURES = ("png", "svg", "pdf")
FORMATS = ("text", *TEXTS, "html", *PICTURES)


def run(config: Mapping[str, Any]) -> Report:
    """Read the runs and show them: text on standard output, a page or picture in a file, whose name is printed.

    Args:
        config: ``configs/report.yaml`` composed.

    Returns:
        What was shown.

    Raises:
        UserError: no directories, no finished run in them, an unknown metric, format, option or baseline.
    """
    require_sensible(config)
    latencies = None if config["bench"] is None else read_latencies(Path(str(config["bench"])))
    found = find_runs(config["places"])
    group_by = config["group_by"] or ()
    report = build_report(found.runs, group_by, config["baseline"], config["metric"], found.left_out())
    if latencies is not None:
        report = with_latencies(report, latencies)
    _show(report, config)
    return report


def require_sensible(config: Mapping[str, Any]) -> None:
    """Refuse what can be refused before anything is read.

    Raises:
        UserError: names the key and the rule.
    """
    if not config["places"]:
        raise UserError("efficientconv report: say where the runs are: efficientconv report outputs/sweeps/<name>")
    for key, known in (("format", FORMATS), ("metric", METRICS)):
        if config[key] not in known:
            near = nearest_first(str(config[key]), known)
            raise UserError(f"{key}={config[key]}: there is no such {key}; nearest first: {near}")
    if not isinstance(config["group_by"], list | None):
        raise UserError(f"group_by={config['group_by']}: must be options with commas between, such as conv,model")
    if config["save"] is not None and Path(str(config["save"])).is_dir():
        raise UserError(f"save={config['save']}: is a directory; name a file in it")


def _show(report: Report, config: Mapping[str, Any]) -> None:
    format, save = config["format"], config["save"]
    if format == "text" and save is None:
        screen = console()
        screen.print(formats.as_rich(report, screen.width), crop=False)
    elif format in TEXTS and save is None:
        sys.stdout.write(TEXTS[format](report))
    else:
        file = Path(save) if save is not None else Path(config["places"][0]) / f"report.{format}"
        with replaced_whole(file) as temporary:
            _write(report, temporary, format, config["places"])
        print(file)


def _write(report: Report, file: Path, format: str, places: list[str]) -> None:
    if format in PICTURES:
        save_figure(report, file, format)
    elif format == "html":
        file.write_text(as_page(report, places, file.parent).render(), encoding="utf-8")
    else:
        file.write_text(TEXTS.get(format, formats.as_plain_text)(report), encoding="utf-8")
