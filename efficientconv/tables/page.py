"""``docs/tables.md``: every table, what comes out and what does not, in one page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from efficientconv.profiling import CONVENTIONS
from efficientconv.tables.entries import TITLES, tally
from efficientconv.tables.formats import Section, markdown_section

COMMAND = "efficientconv tables table=all format=markdown results=results > docs/tables.md"

_INTRODUCTION = f"""# Published tables

Every published figure stands beside the one that this project computes from the network it builds. Figures that do not
come out to the last printed digit are **bold**, with the reason behind them. Accuracies marked * were measured with
another data set or recipe than the published one.

`efficientconv tables` lists the tables, `efficientconv tables table=<name>` prints one, and with `run=true` trains the
rows that have no measurement. This page is written by

```
{COMMAND}
```

## How they were counted

"FLOPs" are multiply-adds, but each paper's tool counted more or less of them. The conventions, by name:
"""


def page(sections: Sequence[Section]) -> str:
    """Write the page."""
    parts = [*introduction(), "## Contents", "", "| table | | rows |", "| --- | --- | --- |"]
    parts += [contents_line(section) for section in sections]
    parts += [f"| all | | {tally([entry for section in sections for entry in section])} |", ""]
    parts += ["## Printed figures that cannot be right", ""]
    parts += [line for section in sections for line in reasons(section)]
    for paper, found in groupby(sections, key=lambda section: section[0].table.paper):
        parts += ["", f"## {paper}", "", *(markdown_section(section) for section in found)]
    return "\n".join(parts).rstrip() + "\n"


def introduction() -> Iterator[str]:
    """Say what the page is, and how was counted."""
    yield _INTRODUCTION
    for name, convention in CONVENTIONS.items():
        first, _, rest = (convention.__doc__ or "").partition("\n\n")
        yield f"- `{name}`: {' '.join(f'{first} {rest}'.split())}".replace("``", "`")
    yield ""


def contents_line(section: Section) -> str:
    """Return a table's line of the contents."""
    table = section[0].table
    return f"| {table.name} | {table.title} | {tally(section)} |"


def reasons(section: Section) -> Iterator[str]:
    """Say of each figure with an ``erratum`` what was printed, what comes out, and why."""
    for entry in section:
        for name, why in entry.row.erratum.items():
            figure = entry.row.figures[name]
            digits = f"{figure} printed, {figure.like(entry.computed[name])} computed"
            yield f"- {entry.table.name}, {entry.row.name}, {TITLES[name]}: {digits}; {why}."
