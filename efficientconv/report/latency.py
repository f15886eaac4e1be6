"""The latency of a report's rows, where ``efficientconv bench model`` measured their networks.

A row is such a network where model and convolution are called alike, and parameters and multiply-adds are the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from efficientconv.errors import UserError
from efficientconv.report.runs import Run
from efficientconv.report.table import Report, Row

Network = tuple[str, str, int, int]
"""The model's name and the convolution's, parameters, multiply-adds."""


@dataclass(frozen=True)
class Latencies:
    """What a bench measured.

    Attributes:
        milliseconds: of each network, for each form in which it ran, such as ``folded``.
        note: of how many images on what device, in a line.
    """

    milliseconds: Mapping[Network, Mapping[str, float]]
    note: str


def read_latencies(file: Path) -> Latencies:
    """Read what ``efficientconv bench model … json=<file>`` wrote.

    Raises:
        UserError: there is no such file, or it is something else.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return _latencies(content, file)
    except OSError as error:
        raise UserError(f"bench={file}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        remedy = "efficientconv bench model … json=<file> writes one"
        raise UserError(f"bench={file}: not a file of efficientconv bench model; {remedy}") from error


def _latencies(content: Mapping[str, Any], file: Path) -> Latencies:
    inference = [contest for contest in content["contests"] if contest["task"] == "inference"]
    fewest = min(inference, key=lambda contest: contest["images"])
    found: dict[Network, dict[str, float]] = {}
    for contender in fewest["contenders"].values():
        counts = content["networks"][contender["conv"]]
        network = (content["config"]["choices"]["model"], contender["conv"], counts["params"], counts["macs"])
        found.setdefault(network, {})[contender["form"]] = 1e3 * contender["seconds"]
    images = "one image" if fewest["images"] == 1 else f"{fewest['images']} images"
    where = f"{content['device']}, torch {content['versions']['torch']}"
    return Latencies(found, f"ms: for {images} at once, on {where}; measured by efficientconv bench ({file}).")


def with_latencies(report: Report, latencies: Latencies) -> Report:
    """Return a report whose rows have their latencies, and which says where these come from."""
    rows = [replace(row, latencies=_of(row, latencies)) for row in report.rows]
    lacking = sum(not row.latencies for row in rows)
    missing = [f"Not measured by the bench: {lacking} of {len(rows)} rows."] if lacking else []
    return replace(report, rows=rows, about_latency=[latencies.note, *missing])


def _of(row: Row, latencies: Latencies) -> Mapping[str, float]:
    """Return a row's latencies; none where its runs are not all of one network."""
    networks = set(map(_network, row.configuration.runs))
    return latencies.milliseconds.get(networks.pop(), {}) if len(networks) == 1 else {}


def _network(run: Run) -> Network:
    options, summary = run.options, run.summary
    return options["model"], options["conv"], summary.get("params", 0), summary.get("macs", 0)
