"""``efficientconv bench compare``: what differs between two files of one bench by more than the spread of its rounds.

Of a contender that stands beside a reference, the ratio within the rounds is compared: other load on the machine, and
another machine, change it least. Of the references themselves it is the speed. Two figures differ where the middle
halves of their rounds, the interquartile ranges, do not overlap.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Group
from rich.text import Text

from efficientconv.bench.rounds import FEWEST_FOR_SPREAD, quartiles
from efficientconv.console import figures_table
from efficientconv.errors import UserError, first_line

LISTS = {"loader": "loaders", "step": "loops"}
"""Where a bench of one contest has its contenders; the others have a list of contests."""

KNOWN = {*LISTS.values(), "contests"}

CONDITIONS = ("device", "threads", "versions", "commit")


@dataclass(frozen=True)
class Figure:
    """A figure of one contender: images per second, or the ratio to its reference, round by round."""

    kind: str
    rounds: list[float]

    @property
    def text(self) -> str:
        """Return the median, as it is printed."""
        value = median(self.rounds)
        return f"{value:.3f}" if self.kind == "ratio" else f"{value:,.0f}/s"


@dataclass(frozen=True)
class Change:
    """What became of one contender: its figure in either file."""

    name: str
    before: Figure
    after: Figure

    @property
    def factor(self) -> float:
        """Return the speed after, relative to that before."""
        return median(self.after.rounds) / median(self.before.rounds)

    @property
    def is_beyond_spread(self) -> bool:
        """Tell whether the middle halves of the rounds lie apart."""
        (low, high), (later_low, later_high) = quartiles(self.before.rounds), quartiles(self.after.rounds)
        return later_low > high or later_high < low


def compare(first: Path, second: Path) -> dict[str, Any]:
    """Compare two files.

    Returns:
        Lists of ``changes``, those that are beyond their spread, the largest first; ``within``, how many are not;
        ``only``, how many are in one file alone; ``conditions`` that differ.

    Raises:
        UserError: a file is none of a bench, the two are of different ones, have too few rounds, or nothing in common.
    """
    before, after = read(first), read(second)
    if before["action"] != after["action"]:
        raise UserError(
            f"{first} is of bench {before['action']} and {second} of bench {after['action']}: "
            "only figures of one bench can be compared"
        )
    earlier, later = figures_of(before, first), figures_of(after, second)
    common = [name for name in earlier if name in later and earlier[name].kind == later[name].kind]
    if not common:
        raise UserError(f"{first} and {second} have no measurement in common")
    found = [Change(name, earlier[name], later[name]) for name in common]
    changed = sorted((change for change in found if change.is_beyond_spread), key=lambda change: change.factor)
    return {
        "changes": changed,
        "within": len(found) - len(changed),
        "only": len(earlier) + len(later) - 2 * len(common),
        "conditions": [key for key in CONDITIONS if before.get(key) != after.get(key)],
    }


def read(file: Path) -> dict[str, Any]:
    """Read a bench's file.

    Raises:
        UserError: there is none, or it is something else.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{file}: there is no such file") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: not a JSON file, or a damaged one") from error
    if not isinstance(content, dict) or not KNOWN & content.keys() or "action" not in content:
        raise UserError(f"{file}: not a file that efficientconv bench … json=<file> wrote")
    return content


def figures_of(content: Mapping[str, Any], file: Path) -> dict[str, Figure]:
    """Return the figure of each contender that is to be compared.

    Raises:
        UserError: a measurement is damaged, or has too few rounds.
    """
    try:
        found = dict(_figures(content))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{file}: a damaged file of efficientconv bench ({first_line(error)})") from error
    fewest = min((len(figure.rounds) for figure in found.values()), default=FEWEST_FOR_SPREAD)
    if fewest < FEWEST_FOR_SPREAD:
        rounds = "1 round" if fewest == 1 else f"{fewest} rounds"
        raise UserError(f"{file}: {rounds} alone tell no spread; measure with rounds={FEWEST_FOR_SPREAD} or more")
    return found


def _figures(content: Mapping[str, Any]) -> Iterator[tuple[str, Figure]]:
    kind = LISTS.get(content["action"])
    contests = [{"contenders": content[kind]}] if kind else content["contests"]
    for contest in contests:
        where = [contest[key] for key in ("place", "task") if key in contest]
        for name, contender in contest["contenders"].items():
            ratios, rates = ([float(value) for value in contender[key]] for key in ("ratios", "rounds"))
            is_reference = set(ratios) == {1.0}
            figure = Figure("speed", rates) if is_reference else Figure("ratio", ratios)
            yield ", ".join([*where, name]), figure


def layout(compared: Mapping[str, Any], names: tuple[str, str], width: int) -> Group:
    """Lay out what ``compare`` found.

    Args:
        compared: its result.
        names: of the files.
        width: of the terminal.
    """
    lines = []
    if compared["conditions"]:
        lines.append(f"The files differ in {', '.join(compared['conditions'])}.")
    changes = compared["changes"]
    within = f"{compared['within']} of {compared['within'] + len(changes)} figures are within their spread"
    lines.append(f"{within}; {compared['only']} are in one file only." if compared["only"] else f"{within}.")
    if not changes:
        return Group(*map(Text, lines))
    rows = [
        [Text(each.name), *map(Text, (f"{each.factor:.2f}", each.before.text, each.after.text))] for each in changes
    ]
    table = figures_table(("changed beyond its spread", "times as fast", *names), rows, width)
    note = "Figures are times the reference, within each round; those of the reference itself are images a second"
    return Group(table, Text(), *map(Text, (f"{note}.", *lines)))
