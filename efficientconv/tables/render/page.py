"""``docs/tables.md``: every table, and the figures that do not agree, in one page."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from efficientconv.profiling import CONVENTIONS
from efficientconv.tables.count.network import comparable
from efficientconv.tables.entries import kinds, tally
from efficientconv.tables.load.figures import with_unit
from efficientconv.tables.load.table import Table
from efficientconv.tables.render.cells import TITLES
from efficientconv.tables.render.formats import Section, heading, markdown_section
from efficientconv.tables.render.markup import markdown_line

COMMAND = "efficientconv tables table=all format=markdown results=results > docs/tables.md"

PAPERS_FIRST = ("bsconv", "spconv", "slimconv", "doconv", "bdrconv")
"""The papers of this project, which come first; the baselines follow."""

_INTRODUCTION = f"""# Published tables

Every published figure stands beside the one that this project computes from the network it builds. Computed figures
that do not have the printed digits are **bold**, and the reason stands in the row's remarks. Accuracies marked * were
measured with another data set or recipe than the published one.

`efficientconv tables` lists the tables, `efficientconv tables table=<name>` prints one, and with `run=true` trains the
rows that have no measurement. This page is written by

```
{COMMAND}
```

## How they were counted

"FLOPs" are multiply-adds, but each paper's tool counted more or less of them. The conventions, by name:
"""


@dataclass(frozen=True)
class Part:
    """The part of the page about one table.

    Attributes:
        table: the table.
        kinds: number of its rows of each kind.
        errata: its lines in the list of printed figures that do not agree.
        text: its own section.
    """

    table: Table
    kinds: Counter[str]
    errata: tuple[str, ...]
    text: str


def page(sections: Sequence[Section]) -> str:
    """Write the page."""
    return assembled([part(section) for section in sections])


def part(section: Section) -> Part:
    """Write the part of the page about one table."""
    return Part(section[0].table, kinds(section), tuple(_errata(section)), markdown_section(section))


def assembled(parts: Sequence[Part]) -> str:
    """Put the page together, the papers in their order."""
    ordered = sorted(parts, key=lambda part: _place(part.table))
    lines = [*_introduction(), "## Contents", "", "| table | title | rows |", "| --- | --- | --- |"]
    lines += [markdown_line((link(each.table), each.table.title, tally(each.kinds))) for each in ordered]
    lines += [markdown_line(("all", "", tally(sum((each.kinds for each in ordered), Counter())))), ""]
    lines += ["## Printed figures that do not come out", ""]
    lines += ["The reasons stand in the remarks and notes of their tables.", ""]
    lines += ["| table | row | figure | printed | computed |", "| --- | --- | --- | ---: | ---: |"]
    lines += [line for each in ordered for line in each.errata]
    for paper, of_paper in groupby(ordered, key=lambda part: part.table.paper):
        lines += ["", f"## {paper}", *(f"\n{each.text.rstrip()}" for each in of_paper)]
    return "\n".join(lines) + "\n"


def link(table: Table) -> str:
    """Link to a table's section, whose anchor is the heading without punctuation and with hyphens for spaces."""
    anchor = re.sub(r"[^\w\- ]", "", heading(table).lower()).replace(" ", "-")
    return f"[{table.name}](#{anchor})"


def _place(table: Table) -> tuple[int, str]:
    paper = table.name.partition("/")[0]
    return PAPERS_FIRST.index(paper) if paper in PAPERS_FIRST else len(PAPERS_FIRST), table.name


def _introduction() -> Iterator[str]:
    yield _INTRODUCTION
    for name, convention in CONVENTIONS.items():
        first, _, rest = (convention.__doc__ or "").partition("\n\n")
        yield f"- `{name}`: {' '.join(f'{first} {rest}'.split())}".replace("``", "`")
    yield ""


def _errata(section: Section) -> Iterator[str]:
    for entry in section:
        for name in entry.row.erratum:
            if name not in entry.needless:
                figure = entry.row.figures[name]
                computed = with_unit(figure.like(comparable(entry.computed, name)), figure.unit)
                yield markdown_line((link(entry.table), entry.row.name, TITLES[name], str(figure), computed))
